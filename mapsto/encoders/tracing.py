"""A `torch.nn.Module` as the graph of operations that an encoder of the kind `module` is made of, through `torch.export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from mapsto.core.errors import ModelError
from mapsto.encoders.module import CONSTANTS, Module, encoded, found

_NUMBER = (bool, int, float, str, type(None))


def traced(module: nn.Module, size: int, mean: Sequence[float], std: Sequence[float],
           features: Callable[[Any, Tensor], Tensor] | None = None) -> Module:  # fmt: skip
    """A module of pictures (B, 3, size, size) as an encoder, shown to give the same features.

    `features(module, x)` gives (B, D), (B, T, D) or (B, D, h, w); without it, the module's own output is taken.

    Raises:
        ModelError: it cannot be written down as a graph, holds an operation that is not allowed, or gives something else.
    """
    looked = _Features(module, features or (lambda whole, x: whole(x))).eval()
    example = torch.rand(2, 3, size, size)
    try:
        batch = torch.export.Dim("batch", min=1, max=1 << 16)
        program = torch.export.export(looked, (example,), dynamic_shapes={"x": {0: batch}})
    except Exception as fault:  # torch.export raises every kind of error
        raise ModelError(
            f"the module cannot be written down as a graph: {str(fault).strip().splitlines()[0]}"
        ) from fault
    graph, tensors = _graph(program)
    with torch.no_grad():
        wanted = looked(example)
    if not isinstance(wanted, Tensor) or wanted.dim() not in (2, 3, 4):
        raise ModelError("expected features (B, D), (B, T, D) or (B, D, h, w) from the module; say with `features` how to get "
                         "them")  # fmt: skip
    width = wanted.shape[1] if wanted.dim() == 4 else wanted.shape[-1]
    made = Module(graph=graph, width=width, mean=mean, std=std).eval()
    made.load_state_dict({name: tensors[name.rpartition(".")[2].replace("/", ".")] for name in made.state_dict()})
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
    with torch.no_grad():
        shown = (pixels.float() - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        theirs, ours = encoded(looked(shown)).rows, made({"pixels": pixels}).rows
    if (difference := float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))) > 1e-4:
        raise ModelError(
            f"the module's graph gives features that differ by {difference:.0e} of the largest from its own"
        )
    return made


@final
class _Features(nn.Module):
    def __init__(self, module: nn.Module, features: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.module, self._features = module, features

    def forward(self, x: Tensor) -> Tensor:
        """What is to be learnt from."""
        return self._features(self.module, x)


def _graph(program: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An exported program as JSON, and its tensors by name."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    names = {node: name.removeprefix("module.") for node, name in names.items()}
    (start,), (output,) = signature.user_inputs, signature.user_outputs
    held = {name.removeprefix("module."): value for name, value in {**program.state_dict, **program.constants}.items()}
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and not _idle(node)]
    read = {name for node in nodes for name in (names.get(n.name) for n in node.all_input_nodes) if name}
    tensors = {name: held[name].detach().clone() for name in sorted(read)}
    blocks = _blocks([name for name in tensors if isinstance(held[name], nn.Parameter)])
    segments: list[list[Any]] = [[] for _ in range(len(blocks) + 2)]
    at = 0
    for node in nodes:
        at = max(at, _segment(node, blocks, at))
        told = {"input": start, "names": names}
        segments[at].append([node.name, _named(node.target), [_json(a, told) for a in node.args],
                             {k: _json(a, told) for k, a in node.kwargs.items()}])  # fmt: skip
    shapes = {name: [list(value.shape), isinstance(held[name], nn.Parameter)] for name, value in tensors.items()}
    return {"segments": segments, "tensors": shapes, "output": output}, tensors


def _idle(node: Any) -> bool:
    """Whether an operation only asserts something."""
    return "assert" in str(node.target) or (not node.users and node.op == "call_function")


def _named(target: Any) -> str:
    """The name of an operation, known to be allowed."""
    module, name = getattr(target, "__module__", ""), getattr(target, "__name__", str(target))
    what = f"python.{name}" if module == "_operator" else str(target)
    found(what)
    return what


def _blocks(names: list[str]) -> list[str]:
    """The modules in a row (`net.layers.0`, `net.layers.1`, …) that hold most of the parameters, in their order."""
    families: dict[str, dict[int, list[str]]] = {}
    for name in names:
        parts = name.split(".")
        for i, part in enumerate(parts[:-1]):
            stem = part.rstrip("0123456789")
            if stem != part:
                family = ".".join([*parts[:i], stem])
                families.setdefault(family, {}).setdefault(int(part[len(stem) :]), []).append(name)
                break
    best = max(families.items(), key=lambda item: (len(item[1]) > 1, sum(map(len, item[1].values()))), default=("", {}))
    return [f"{best[0]}{number}" for number in sorted(best[1])] if len(best[1]) > 1 else []


def _segment(node: Any, blocks: Sequence[str], at: int) -> int:
    """The segment that an operation belongs to: 0 before the blocks, then one a block, then the rest."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    path = [str(name).removeprefix("module.") for name, _ in stack]
    for i, block in enumerate(blocks, 1):
        if any(name == block or name.startswith(f"{block}.") for name in path):
            return i
    return len(blocks) + 1 if blocks and at == len(blocks) else at


def _json(argument: Any, told: Mapping[str, Any]) -> Any:
    """An argument of an operation as JSON."""
    if isinstance(argument, (list, tuple)):
        return [_json(a, told) for a in argument]
    if isinstance(argument, torch.fx.Node):
        if argument.name in told["names"]:
            return {"tensor": told["names"][argument.name]}
        return {"value": "input" if argument.name == told["input"] else argument.name}
    if isinstance(argument, _NUMBER):
        return argument
    if isinstance(argument, CONSTANTS):
        return {"torch": str(argument).removeprefix("torch.")}
    if isinstance(argument, torch.device):
        return str(argument)
    raise ModelError(
        f"the module's graph has an argument of type {type(argument).__name__}, which cannot be written down"
    )
