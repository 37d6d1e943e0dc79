"""JAX's operations as calls of NumPy."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ppo2.numerics.numpy_calls import Calls, NDArray, aligned, require
from ppo2.numerics.traced import Operation

MOST_OF_VECTOR_PRODUCT = 9_000
"""Numbers of a matrix whose product with a vector OpenBLAS makes in one thread: below 2,304 * 4 (its
interface/gemv.c). Larger products are cut: other threads would cost more than they save here, and go on waiting for
work in the place of processes that have some."""
MOST_OF_PRODUCT = 260_000
"""The same of the product of two matrices, in multiplications: below 65,536 * 4 (interface/gemm.c)."""

Translation = Callable[[Calls, Operation], None]
TRANSLATIONS: dict[str, Translation] = {}
"""Functions that add the calls of an operation, by its name; they raise UntranslatableError where there are none."""


def _translates(*names: str) -> Callable[[Translation], Translation]:
    def register(translation: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(names, translation))
        return translation

    return register


# --- number by number -------------------------------------------------------------------------------------------------

UFUNCS: dict[str, np.ufunc] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "square": np.square,
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt,
    "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "is_finite": np.isfinite,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
OF_FLOATS: dict[str, np.ufunc] = {"div": np.divide, "pow": np.power}
OF_BOOLEANS: dict[str, np.ufunc] = {"and": np.logical_and, "or": np.logical_or, "not": np.logical_not}


@_translates(*UFUNCS, *OF_FLOATS, *OF_BOOLEANS)
def _ufunc(calls: Calls, operation: Operation) -> None:
    (result,), name = operation.results, operation.name
    require(operation, name not in OF_FLOATS or result.dtype == np.float32)
    require(operation, name not in OF_BOOLEANS or result.dtype == np.bool_)
    operands = [calls.stretched(x, result.shape) for x in operation.arguments]
    _each(calls, {**UFUNCS, **OF_FLOATS, **OF_BOOLEANS}[name], operands, calls.new(result))


def _each(calls: Calls, function: np.ufunc, operands: Sequence[NDArray], out: NDArray) -> None:
    """A call of a function of numbers."""
    if function in (np.maximum, np.minimum):  # which take `out` by name alone
        calls.add(lambda a, b, out: function(a, b, out=out), *operands, out, numbers=out.size)
    else:
        calls.add(function, *operands, out, numbers=out.size)


@_translates("rsqrt")
def _rsqrt(calls: Calls, operation: Operation) -> None:
    out = calls.new(operation.results[0])
    _each(calls, np.sqrt, [calls.array(operation.arguments[0])], out)
    _each(calls, np.reciprocal, [out], out)


@_translates("logistic")
def _logistic(calls: Calls, operation: Operation) -> None:
    """1 / (1 + exp(-x))."""
    (result,) = operation.results
    out, ones = calls.new(result), aligned(result.shape, result.dtype)
    ones[...] = 1
    _each(calls, np.negative, [calls.array(operation.arguments[0])], out)
    _each(calls, np.exp, [out], out)
    _each(calls, np.add, [out, ones], out)
    _each(calls, np.reciprocal, [out], out)


@_translates("integer_pow")
def _integer_pow(calls: Calls, operation: Operation) -> None:
    power = operation.settings["y"]
    require(operation, power in (2, 3, 4))
    x, out = calls.array(operation.arguments[0]), calls.new(operation.results[0])
    _each(calls, np.square, [x], out)
    if power > 2:
        _each(calls, np.multiply, [out, x if power == 3 else out], out)


@_translates("clamp")
def _clamp(calls: Calls, operation: Operation) -> None:
    (result,) = operation.results
    low, x, high = (calls.stretched(value, result.shape) for value in operation.arguments)
    out = calls.new(result)
    _each(calls, np.maximum, [low, x], out)
    _each(calls, np.minimum, [out, high], out)


@_translates("select_n")
def _select(calls: Calls, operation: Operation) -> None:
    which, *cases = operation.arguments
    (result,) = operation.results
    require(operation, which.dtype == np.bool_ and len(cases) == 2)
    chosen, arrays = (calls.stretched(which, result.shape), [calls.stretched(case, result.shape) for case in cases])
    out = calls.new(result)
    calls.write(out, arrays[0])
    calls.add(np.copyto, out, arrays[1], "same_kind", chosen, numbers=out.size)


@_translates("convert_element_type")
def _convert(calls: Calls, operation: Operation) -> None:
    (value,), (result,) = operation.arguments, operation.results
    if value.dtype == result.dtype:
        calls.let(result, calls.array(value))
        return
    require(operation, np.can_cast(value.dtype, result.dtype, "same_kind"))
    calls.write(calls.new(result), calls.array(value))


# --- along axes -------------------------------------------------------------------------------------------------------

REDUCTIONS: dict[str, np.ufunc] = {
    "reduce_sum": np.add, "reduce_max": np.maximum, "reduce_min": np.minimum,
    "reduce_and": np.logical_and, "reduce_or": np.logical_or,
}  # fmt: skip


@_translates(*REDUCTIONS)
def _reduce(calls: Calls, operation: Operation) -> None:
    (value,), (result,) = operation.arguments, operation.results
    require(operation, math.prod(value.shape) > 0 and value.dtype == result.dtype)
    require(operation, operation.name not in ("reduce_and", "reduce_or") or value.dtype == np.bool_)
    function, axes = REDUCTIONS[operation.name].reduce, tuple(operation.settings["axes"])
    calls.add(function, calls.array(value), axes, value.dtype, calls.new(result), numbers=math.prod(value.shape))


@_translates("argmax", "argmin")
def _argmax(calls: Calls, operation: Operation) -> None:
    """NumPy's index has 64 bits, which become those of the result where they are written elsewhere."""
    (axis,) = operation.settings["axes"]
    x, found = calls.array(operation.arguments[0]), aligned(operation.results[0].shape, np.intp)
    calls.add(getattr(x, operation.name), axis, found, numbers=x.size)
    calls.let(operation.results[0], found)


# --- products ---------------------------------------------------------------------------------------------------------


@_translates("dot_general")
def _dot(calls: Calls, operation: Operation) -> None:
    """The product of two matrices, or its transpose, by pieces of some rows, each of which is made in one thread."""
    (axes, batch), (result,) = operation.settings["dimension_numbers"], operation.results
    require(operation, not any(map(len, batch)) and all(len(of) == 1 for of in axes))
    require(operation, all(len(x.shape) == 2 and x.dtype == np.float32 for x in (*operation.arguments, result)))
    require(operation, all(math.prod(x.shape) > 0 for x in (*operation.arguments, result)))
    (left, right), ((left_axis,), (right_axis,)) = operation.arguments, axes
    if operation.settings.get(TRANSPOSED):  # (A B)^T = B^T A^T
        left, right, left_axis, right_axis = right, left, right_axis, left_axis
    out, length = calls.new(result), left.shape[left_axis]
    if len(out) == 1 and out.size * length > MOST_OF_VECTOR_PRODUCT:  # as its transpose, to be cut by rows
        left, right, left_axis, right_axis, out = right, left, right_axis, left_axis, out.T
    a, b = calls.in_order(left, left_axis == 0), calls.in_order(right, right_axis == 1)
    is_vector = 1 in out.shape
    rows = MOST_OF_VECTOR_PRODUCT // length if is_vector else MOST_OF_PRODUCT // b.size
    require(operation, rows > 0)
    pieces = -(-len(out) // rows)
    smallest = len(out) // pieces
    require(operation, is_vector or smallest > 1 or b.size <= MOST_OF_VECTOR_PRODUCT)
    for some, target in zip(np.array_split(a, pieces), np.array_split(out, pieces), strict=True):
        calls.add(some.dot, b, target, products=len(some) * b.size)


TRANSPOSED = "ppo2_transposed"
"""Setting of a product that is to give its transpose."""


# --- arrangement ------------------------------------------------------------------------------------------------------


@_translates("reshape", "squeeze", "expand_dims")
def _reshape(calls: Calls, operation: Operation) -> None:
    value, (result,) = operation.arguments[0], operation.results
    require(operation, operation.name != "reshape" or operation.settings.get("dimensions") is None)
    x = calls.array(value)
    if not x.flags.c_contiguous:
        x = aligned(value.shape, value.dtype)
        calls.write(x, calls.array(value))
    calls.let(result, x.reshape(result.shape))


@_translates("transpose")
def _transpose(calls: Calls, operation: Operation) -> None:
    calls.let(operation.results[0], calls.array(operation.arguments[0]).transpose(operation.settings["permutation"]))


@_translates("broadcast_in_dim")
def _broadcast(calls: Calls, operation: Operation) -> None:
    value, (result,) = operation.arguments[0], operation.results
    shape = [1] * len(result.shape)
    for axis, size in zip(operation.settings["broadcast_dimensions"], value.shape, strict=True):
        shape[axis] = size
    calls.let(result, np.broadcast_to(calls.array(value).reshape(shape), result.shape))


@_translates("slice")
def _slice(calls: Calls, operation: Operation) -> None:
    settings = operation.settings
    steps = settings["strides"] or [1] * len(settings["start_indices"])
    index = tuple(map(slice, settings["start_indices"], settings["limit_indices"], steps))
    calls.let(operation.results[0], calls.array(operation.arguments[0])[index])


@_translates("split")
def _split(calls: Calls, operation: Operation) -> None:
    ends, axis = np.cumsum(operation.settings["sizes"]), operation.settings["axis"]
    parts = np.split(calls.array(operation.arguments[0]), ends[:-1], axis=axis)
    for result, part in zip(operation.results, parts, strict=True):
        calls.let(result, part)


@_translates("concatenate")
def _concatenate(calls: Calls, operation: Operation) -> None:
    axis, at = operation.settings["dimension"], 0
    out = calls.new(operation.results[0])
    for value in operation.arguments:
        until = at + value.shape[axis]
        part = out[(slice(None),) * axis + (slice(at, until),)]
        calls.write(part, calls.array(value))
        at = until


@_translates("stack")
def _stack(calls: Calls, operation: Operation) -> None:
    out = calls.new(operation.results[0])
    for part, value in zip(np.moveaxis(out, operation.settings["axis"], 0), operation.arguments, strict=True):
        calls.write(part, calls.array(value))


@_translates("iota")
def _iota(calls: Calls, operation: Operation) -> None:
    (result,), axis = operation.results, operation.settings["dimension"]
    shape = [1] * len(result.shape)
    shape[axis] = result.shape[axis]
    calls.new(result)[...] = np.arange(result.shape[axis], dtype=result.dtype).reshape(shape)
