"""Sixteen float32 side by side, for kernels that are compiled by numba: one register or several of the machine's own.

numba leaves it to LLVM to find what can run side by side, which in loops of a hundred entries costs more than the work.
Here a kernel says it itself: `load`, `store`, `splat`, `fused` (a·b + c), `total` (the sum of the sixteen), `fetch` (into
the cache, soon to be read). LLVM lowers sixteen lanes to one AVX-512 register, two of AVX2 or four of NEON.

All indices count float32 entries from the start of a C-contiguous array. A kernel that is kept on disk is compiled anew
when its own file changes, not when this one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from mapsto.core.errors import MissingExtra

try:
    import numba
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic, models, register_model
    from numba.np.arrayobj import make_array
except ImportError as fault:
    raise MissingExtra("compiled kernels need numba, which is not installed; pip install 'mapsto[words]'") from fault

WIDTH = 16

_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_FAST = ("fast",)


_OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy", "boundscheck": False}


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled when first called; without the interpreter's lock, and kept on disk where a folder allows it."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # numba found no folder that it may write to
        return numba.njit(**_OPTIONS)(function)


def part(function: Callable[..., Any]) -> Any:
    """A function that is written into those that call it: a call with seven arrays costs more than many a loop."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


@final
class _Lanes(types.Type):
    """numba's name for the type."""

    def __init__(self) -> None:
        super().__init__(name="lanes")


_lanes = _Lanes()


register_model(_Lanes)(lambda manager, kind: models.PrimitiveModel(manager, kind, _VECTOR))


def _primitive(make: Callable[..., Any]) -> Any:
    """`make` gives the signature for its arguments' types, and what writes LLVM's instructions."""
    return intrinsic(make)


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """The address of entry `index` of an array, as a vector's."""
    start = make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(start, [index]), _VECTOR.as_pointer())


@_primitive
def load(typing: Any, array: Any, index: Any) -> Any:
    """Entries index … index + 15."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], args[0], args[1]), align=4)

    return _lanes(array, types.int64), make


@_primitive
def store(typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Put the lanes at index … index + 15."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, _lanes), make


@_primitive
def splat(typing: Any, value: Any) -> Any:
    """One number sixteen times."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)

    return _lanes(types.float32), make


@_primitive
def fused(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a · b + c, in one instruction where the machine has it."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(builder.fmul(args[0], args[1], flags=_FAST), args[2], flags=_FAST)

    return _lanes(_lanes, _lanes, _lanes), make


@_primitive
def total(typing: Any, lanes: Any) -> Any:
    """The sum of the sixteen."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _VECTOR])
        reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32")
        return builder.call(reduce, [ir.Constant(ir.FloatType(), 0.0), args[0]], fastmath=_FAST)

    return types.float32(_lanes), make


@_primitive
def fetch(typing: Any, array: Any, index: Any) -> Any:
    """Begin to bring an entry into the cache."""

    def make(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(32)
        place = builder.bitcast(
            make_array(signature.args[0])(context, builder, args[0]).data, ir.FloatType().as_pointer()
        )
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), number, number, number])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(call, [builder.gep(place, [args[1]]), *(ir.Constant(number, n) for n in (1, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), make
