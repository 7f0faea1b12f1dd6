"""x ↦ y. Everything is a mapping: pretrain it once, transfer it anywhere, know what it is worth, ship it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mapsto.api import (
        embed,
        evaluate,
        export,
        fill,
        generate,
        load,
        predict,
        pretrain,
        transfer,
        verify,
    )
    from mapsto.estimators import Classifier, Regressor
    from mapsto.model import Model
    from mapsto.starts import blank, from_module, import_model

_HOMES = {
    "Model": "model", "blank": "starts", "embed": "api", "evaluate": "api", "export": "api", "load": "api", "predict": "api",
    "transfer": "api", "pretrain": "api", "generate": "api", "fill": "api", "from_module": "starts", "import_model": "starts", "verify": "api", "Classifier": "estimators", "Regressor": "estimators",
}  # fmt: skip

__all__ = ["Classifier", "Model", "Regressor", "blank", "embed", "evaluate", "export", "fill", "from_module", "generate", "import_model", "load", "predict", "pretrain",
           "transfer", "verify"]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `import mapsto` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mapsto' has no attribute {name!r}")
    return getattr(import_module(f"mapsto.{_HOMES[name]}"), name)
