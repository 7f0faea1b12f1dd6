"""What stands between a pooled vector and its scores, with or without one hidden layer.

    scores = W · h(layer_norm(pooled)) + b        h(x) = x, or dropout(GELU(V·x + c))

W and b start at zero, so training starts where nothing is known. Or nothing at all: of trees, say, `pooled` is the scores. Shape letters: `D` width, `H` hidden, `K` outputs.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from mapsto.core.errors import ConfigError

DROPOUT = 0.5  # of the hidden layer (Srivastava et al. 2014)
SMOOTHING = 0.1  # of the classes that a hidden layer learns (Szegedy et al. 2016): else it learns wrong labels too


def hidden(width: int, size: int) -> nn.Module:
    """h: (B, D) ↦ (B, H), or the identity where `size` H is 0.

    Raises:
        ConfigError: a size below 0.
    """
    if size < 0:
        raise ConfigError(f"hidden: expected how many units the hidden layer has, 0 for none, got {size}; leave it out")
    return nn.Sequential(nn.Linear(width, size), nn.GELU(), nn.Dropout(DROPOUT)) if size else nn.Identity()


def chain(width: int, size: int | None, outputs: int) -> tuple[Any, nn.Module, Any]:
    """The norm, h with H = `size`, and the last layer; three identities where `size` is None.

    Raises:
        ConfigError: a size below 0, or scores that are not as many as they must be.
    """
    if size is not None:
        return nn.LayerNorm(width, elementwise_affine=False), hidden(width, size), zeros(size or width, outputs)
    if width != outputs:
        raise ConfigError(f"hidden: expected {outputs} scores from the encoder where nothing stands between, got {width}; leave "
                          "hidden out")  # fmt: skip
    return nn.Identity(), nn.Identity(), nn.Identity()


def zeros(width: int, outputs: int) -> nn.Linear:
    """W (K, D) and b (K,), all 0."""
    layer = nn.Linear(width, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
