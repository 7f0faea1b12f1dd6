"""Any `torch.nn.Module` of pictures as an encoder that needs none of its code: its graph of ATen operations, as data.

`torch.export` writes down what a module does to a batch; that list of operations is the encoder's spec, its tensors are the
encoder's weights, and so a saved model holds no code and asks for no package. Only operations of `OPERATIONS`, which compute
on tensors and do nothing else, are ever looked up. Norms keep the statistics that the module came with (they are part of the
graph as it is in evaluation), also while it is tuned.

Shape letters: `B` pictures, `S` pixels along an edge, `D` width, `N` positions: one for each place of a map of features.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ModelError
from mapsto.nn.colours import Colours

OPERATIONS = frozenset(
    """
abs adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d add add_ addmm alias amax amin arange avg_pool2d
baddbmm batch_norm bmm cat ceil channel_shuffle chunk clamp clamp_ clone constant_pad_nd contiguous conv1d conv2d cos
detach_ div div_ dropout einsum elu exp expand expand_as flatten floor full full_like ge gelu glu group_norm gt
hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ index index_select instance_norm interpolate
layer_norm le leaky_relu leaky_relu_ lift_fresh_copy linalg_vector_norm linear log log_softmax lt masked_fill matmul
max_pool2d maximum mean minimum mish mm mul mul_ narrow ne neg new_ones new_zeros norm ones ones_like pad permute
pixel_shuffle pixel_unshuffle pow reciprocal relu relu6 relu6_ relu_ repeat reshape rms_norm roll rsqrt scalar_tensor
scaled_dot_product_attention select sigmoid sigmoid_ silu silu_ sin slice softmax softplus split split_with_sizes sqrt
square squeeze stack std sub sub_ sum sym_size t tanh tanh_ tile to transpose type_as unbind unflatten unfold
unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest2d var view where zeros zeros_like
    """.split()  # noqa: SIM905 - a list would take a page
)
"""Of ATen; what else a graph names is refused."""

_PYTHON = {name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "getitem", "neg", "mod")}
CONSTANTS = (torch.dtype, torch.memory_format, torch.layout)


@final
class Segment(nn.Module):
    """Some operations of a graph in their order, and the tensors that they read.

    Args:
        steps: name ↦ (operation, arguments, named arguments); arguments are JSON, `{"value": name}` what an earlier
            operation made, `{"tensor": name}` a tensor.
        tensors: the tensors by name, parameters or buffers.
        needed: values that later segments read.
    """

    def __init__(self, steps: Sequence[Sequence[Any]], tensors: Mapping[str, Tensor], needed: frozenset[str]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            add = self.register_parameter if isinstance(tensor, nn.Parameter) else self.register_buffer
            add(name.replace(".", "/"), tensor)  # type: ignore[arg-type]
        last = {name: i for i, step in enumerate(steps) for name in names(step[2:], "value")}
        self._steps = [
            (str(name), found(what), args, named, [v for v, end in last.items() if end == i and v not in needed])
            for i, (name, what, args, named) in enumerate(steps)
        ]

    def forward(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values so far ↦ with those of this segment, without what nobody reads any more."""
        for name, operation, args, named, done in self._steps:
            values[name] = operation(*(self._filled(a, values) for a in args),
                                     **{k: self._filled(a, values) for k, a in named.items()})  # fmt: skip
            for value in done:
                del values[value]
        return values

    def _filled(self, argument: Any, values: Mapping[str, Any]) -> Any:
        if isinstance(argument, list):
            return [self._filled(a, values) for a in argument]
        if not isinstance(argument, dict):
            return argument
        ((kind, name),) = argument.items()
        if kind == "value":
            return values[name]
        return _constant(name) if kind == "torch" else getattr(self, name.replace(".", "/"))


@final
class Module(Encoder):
    """Any module of pictures, as a graph of ATen operations.

    Args:
        graph: what `traced` made: `segments` of steps, `tensors` (name ↦ shape, whether it is trained), `output`.
        width: D.
        mean, std: of each colour from 0 to 255; pixels are (x - mean) / std before the graph.

    Raises:
        ModelError: an operation that is not allowed.
    """

    name: ClassVar[str] = "module"
    needs: ClassVar[tuple[str, ...]] = ("pixels",)

    def __init__(self, *, graph: dict[str, Any], width: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._spec = {"graph": graph, "width": width, "mean": list(mean), "std": list(std)}
        self.width, self.attends, self._output = width, frozenset({"full"}), graph["output"]
        made: dict[str, Tensor] = {}
        for name, (shape, trained) in graph["tensors"].items():
            zeros = torch.zeros(shape)
            made[name] = nn.Parameter(zeros) if trained else zeros
        parts, needed = [], frozenset({self._output})
        for steps in reversed(graph["segments"]):
            reads = dict.fromkeys(name for step in steps for name in names(step[2:], "tensor"))
            parts.append(Segment(steps, {name: made[name] for name in reads}, needed))
            needed |= {name for step in steps for name in names(step[2:], "value")}
        self.before, *blocks, self.after = reversed(parts)
        self.blocks = nn.ModuleList(blocks)
        self.colours = Colours(mean, std)

    @property
    def entry(self) -> nn.Module:
        """What comes before its blocks."""
        return self.before

    @property
    def depths(self) -> Sequence[nn.Module]:
        """Its blocks."""
        return list(self.blocks)

    def forward(self, batch: Batch) -> Encoded:
        """`pixels` (B, 3, S, S) uint8; rows are the places of the module's map, and `pooled` their mean."""
        values = {"input": self.colours(batch["pixels"])}
        for segment in (self.before, *self.blocks, self.after):
            values = segment(values)
        return encoded(values[self._output])

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def encoded(features: Tensor) -> Encoded:
    """(B, D), (B, T, D) or (B, D, h, w) as `Encoded`."""
    grid = tuple(features.shape[2:]) if features.dim() == 4 else None
    rows = (
        features.flatten(2).transpose(1, 2)
        if features.dim() == 4
        else features.view(len(features), -1, features.shape[-1])
    )
    lengths = torch.full((len(rows),), rows.shape[1], device=rows.device)
    return Encoded(rows.flatten(0, 1), lengths, rows.float().mean(1), grid)


def found(what: str) -> Callable[..., Any]:
    """The operation of that name.

    Raises:
        ModelError: it is not one that a graph may hold.
    """
    space, _, rest = what.partition(".")
    name, _, overload = rest.partition(".")
    if space == "python" and name in _PYTHON:
        operation: Callable[..., Any] = _PYTHON[name]
        return operation
    packet = getattr(torch.ops.aten, name, None) if space == "aten" and name in OPERATIONS else None
    if packet is None or overload not in packet.overloads():
        raise ModelError(f"the operation {what!r} is not one that a graph of an encoder may hold")
    made: Callable[..., Any] = getattr(packet, overload)
    return made


def _constant(name: str) -> Any:
    """A type of numbers or a layout by its name in torch."""
    value = getattr(torch, name, None)
    if not isinstance(value, CONSTANTS):
        raise ModelError(f"{name!r} is neither a type of numbers nor a layout that torch has")
    return value


def names(argument: Any, kind: str) -> list[str]:
    """The values, or tensors, that arguments name."""
    if isinstance(argument, dict):
        if set(argument) == {kind}:
            return [argument[kind]]
        return [name for a in argument.values() for name in names(a, kind)]
    return [name for a in argument for name in names(a, kind)] if isinstance(argument, (list, tuple)) else []
