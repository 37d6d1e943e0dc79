"""JAX's operations as ONNX' operators: number by number, along axes, and arrangement."""

import math
from collections.abc import Callable

import numpy as np

from ppo2.deployment.graph import Tensor
from ppo2.deployment.translator import Translation, Translator, require
from ppo2.numerics.traced import Operation

TRANSLATIONS: dict[str, Translation] = {}
"""Functions that add the operators of an operation, by its name."""


def translates(*names: str) -> Callable[[Translation], Translation]:
    """Decorator of the translation of these operations."""

    def register(translation: Translation) -> Translation:
        TRANSLATIONS.update(dict.fromkeys(names, translation))
        return translation

    return register


# --- number by number -------------------------------------------------------------------------------------------------

OPERATORS = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow",
    "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "tanh": "Tanh", "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos",
    "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh",
    "logistic": "Sigmoid", "erf": "Erf",
}  # fmt: skip
COMPARISONS = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
OF_BOOLEANS = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}


@translates(*OPERATORS)
def _each(t: Translator, operation: Operation) -> None:
    _let_each(t, operation, lambda *x: t.each(OPERATORS[operation.name], x))


@translates(*COMPARISONS, "ne")
def _compare(t: Translator, operation: Operation) -> None:
    operands = _computable(t, operation)
    equal = t.each(COMPARISONS.get(operation.name, "Equal"), operands, np.bool_)
    t.let(operation.results[0], t.each("Not", [equal]) if operation.name == "ne" else equal)


@translates(*OF_BOOLEANS)
def _of_booleans(t: Translator, operation: Operation) -> None:
    require(operation, operation.results[0].dtype == np.bool_)
    t.let(operation.results[0], t.each(OF_BOOLEANS[operation.name], [t.tensor(x) for x in operation.arguments]))


def _let_each(t: Translator, operation: Operation, made: Callable[..., Tensor]) -> None:
    """Lets the result be what a function makes of the arguments, in a dtype that runtimes compute with."""
    t.let(operation.results[0], t.cast(made(*_computable(t, operation)), operation.results[0].dtype))


def _computable(t: Translator, operation: Operation) -> list[Tensor]:
    """The arguments, those of small integers with 32 bits: runtimes don't compute with fewer."""
    found = [t.tensor(value) for value in operation.arguments]
    small = [x.dtype == np.bool_ or (x.dtype.kind in "iu" and x.dtype.itemsize < 4) for x in found]
    return [t.cast(x, np.int32) if is_small else x for x, is_small in zip(found, small, strict=True)]


def _like(t: Translator, x: Tensor, number: float) -> Tensor:
    return t.constant(np.asarray(number, x.dtype))


COMPOSED: dict[str, Callable[[Translator, Tensor], Tensor]] = {
    "square": lambda t, x: t.each("Mul", [x, x]),
    "rsqrt": lambda t, x: t.each("Reciprocal", [t.each("Sqrt", [x])]),
    "exp2": lambda t, x: t.each("Pow", [_like(t, x, 2), x]),
    "expm1": lambda t, x: t.each("Sub", [t.each("Exp", [x]), _like(t, x, 1)]),
    "log1p": lambda t, x: t.each("Log", [t.each("Add", [x, _like(t, x, 1)])]),
    "erfc": lambda t, x: t.each("Sub", [_like(t, x, 1), t.each("Erf", [x])]),
    "cbrt": lambda t, x: t.each("Mul", [t.each("Sign", [x]), t.each("Pow", [t.each("Abs", [x]), _like(t, x, 1 / 3)])]),
    "is_finite": lambda t, x: t.each("Less", [t.each("Abs", [x]), _like(t, x, np.inf)], np.bool_),
}
"""Operations made of several operators; of NaN, too, `is_finite` is False. `expm1` and `log1p` are off by 1e-7."""


@translates(*COMPOSED)
def _composed(t: Translator, operation: Operation) -> None:
    _let_each(t, operation, lambda x: COMPOSED[operation.name](t, x))


@translates("integer_pow")
def _integer_pow(t: Translator, operation: Operation) -> None:
    _let_each(t, operation, lambda x: t.each("Pow", [x, _like(t, x, operation.settings["y"])]))


@translates("rem")
def _rem(t: Translator, operation: Operation) -> None:
    _let_each(t, operation, lambda *x: t.each("Mod", x, fmod=1))


@translates("round")
def _round(t: Translator, operation: Operation) -> None:
    require(operation, int(operation.settings["rounding_method"]) == 1)  # halves to even numbers
    _let_each(t, operation, lambda x: t.each("Round", [x]))


@translates("clamp")
def _clamp(t: Translator, operation: Operation) -> None:
    _let_each(t, operation, lambda low, x, high: t.each("Min", [t.each("Max", [low, x]), high]))


@translates("select_n")
def _select(t: Translator, operation: Operation) -> None:
    (result,), (which, *cases) = operation.results, operation.arguments
    require(operation, which.dtype == np.bool_ and len(cases) == 2)
    chosen, no, yes = t.tensor(which), *(t.tensor(case) for case in cases)
    if result.dtype == np.bool_:  # Where isn't for booleans
        kept = t.each("And", [no, t.each("Not", [chosen])])
        t.let(result, t.each("Or", [t.each("And", [chosen, yes]), kept]))
        return
    dtype = yes.dtype if yes.dtype.name in ("float32", "float64", "int64") else np.dtype(np.int32)
    t.let(result, t.cast(t.each("Where", [chosen, t.cast(yes, dtype), t.cast(no, dtype)], dtype), yes.dtype))


@translates("convert_element_type")
def _convert(t: Translator, operation: Operation) -> None:
    t.let(operation.results[0], t.cast(t.tensor(operation.arguments[0]), operation.results[0].dtype))


@translates("reduce_precision")
def _reduce_precision(t: Translator, operation: Operation) -> None:
    bits = operation.settings["exponent_bits"], operation.settings["mantissa_bits"]
    require(operation, bits in ((8, 7), (8, 23)))
    x = t.tensor(operation.arguments[0])
    t.let(operation.results[0], t.rounded(x, "bfloat16") if bits == (8, 7) else x)


# --- along axes -------------------------------------------------------------------------------------------------------

REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_prod": "ReduceProd", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_and": "ReduceMin", "reduce_or": "ReduceMax",
}  # fmt: skip


@translates(*REDUCTIONS)
def _reduce(t: Translator, operation: Operation) -> None:
    (value,), (result,) = operation.arguments, operation.results
    x = t.whole(value)
    wide = t.cast(x, np.int32) if x.dtype.kind in "iub" and x.dtype.itemsize < 4 else x
    axes = t.constant(np.array(operation.settings["axes"], np.int64))
    reduced = t.add(REDUCTIONS[operation.name], [wide, axes], result.shape, keepdims=0) if axes.shape[0] else wide
    t.let(result, t.cast(reduced, result.dtype))


@translates("argmax", "argmin")
def _argmax(t: Translator, operation: Operation) -> None:
    (axis,), (result,) = operation.settings["axes"], operation.results
    x = t.whole(operation.arguments[0])
    x = t.cast(x, np.int32) if x.dtype == np.bool_ else x
    found = t.add(
        "ArgMax" if operation.name == "argmax" else "ArgMin", [x], result.shape, np.int64, axis=axis, keepdims=0
    )
    t.let(result, t.cast(found, result.dtype))


@translates("cumsum")
def _cumsum(t: Translator, operation: Operation) -> None:
    x, axis = t.whole(operation.arguments[0]), t.constant(np.asarray(operation.settings["axis"], np.int64))
    backwards = int(operation.settings["reverse"])
    t.let(operation.results[0], t.add("CumSum", [x, axis], x.shape, reverse=backwards))


# --- arrangement ------------------------------------------------------------------------------------------------------


@translates("reshape")
def _reshape(t: Translator, operation: Operation) -> None:
    require(operation, operation.settings.get("dimensions") is None)
    t.let(operation.results[0], t.reshaped(t.whole(operation.arguments[0]), operation.results[0].shape))


@translates("squeeze")
def _squeeze(t: Translator, operation: Operation) -> None:
    x, gone = t.tensor(operation.arguments[0]), operation.settings["dimensions"]
    t.let(operation.results[0], t.reshaped(x, [size for i, size in enumerate(x.shape) if i not in gone]))


@translates("expand_dims")
def _expand_dims(t: Translator, operation: Operation) -> None:
    x, sizes = t.tensor(operation.arguments[0]), [1] * len(operation.results[0].shape)
    kept = [i for i in range(len(sizes)) if i not in operation.settings["dimensions"]]
    for axis, size in zip(kept, x.shape, strict=True):
        sizes[axis] = size
    t.let(operation.results[0], t.reshaped(x, sizes))


@translates("broadcast_in_dim")
def _broadcast(t: Translator, operation: Operation) -> None:
    x, shape = t.tensor(operation.arguments[0]), [1] * len(operation.results[0].shape)
    for axis, size in zip(operation.settings["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = size
    t.let(operation.results[0], t.reshaped(x, shape))


@translates("transpose")
def _transpose(t: Translator, operation: Operation) -> None:
    t.let(operation.results[0], t.permuted(t.tensor(operation.arguments[0]), operation.settings["permutation"]))


@translates("rev")
def _rev(t: Translator, operation: Operation) -> None:
    x, axes = t.whole(operation.arguments[0]), list(operation.settings["dimensions"])
    whole = [np.full(len(axes), number, np.int64) for number in (-1, np.iinfo(np.int64).min, -1)]
    inputs = [x, *(t.constant(numbers) for numbers in (*whole[:2], np.array(axes, np.int64), whole[2]))]
    t.let(operation.results[0], t.add("Slice", inputs, x.shape))


@translates("slice")
def _slice(t: Translator, operation: Operation) -> None:
    settings, (result,) = operation.settings, operation.results
    steps = settings["strides"] or [1] * len(result.shape)
    x = t.whole(operation.arguments[0])
    t.let(result, sliced(t, x, settings["start_indices"], settings["limit_indices"], steps, result.shape))


def sliced(
    t: Translator, x: Tensor, starts: tuple[int, ...], ends: tuple[int, ...], steps: list[int], shape: tuple[int, ...]
) -> Tensor:
    """A part of an array; of axes that are there whole nothing is said, so that the batch may have any size."""
    axes = [i for i, size in enumerate(shape) if (starts[i], steps[i]) != (0, 1) or size != x.shape[i]]
    if not axes:
        return x
    numbers = ([of[i] for i in axes] for of in (starts, ends, range(len(shape)), steps))
    return t.add("Slice", [x, *(t.constant(np.array(of, np.int64)) for of in numbers)], shape)


@translates("split")
def _split(t: Translator, operation: Operation) -> None:
    axis, x, begin = operation.settings["axis"], t.whole(operation.arguments[0]), 0
    for result, size in zip(operation.results, operation.settings["sizes"], strict=True):
        starts, ends = ([at if i == axis else 0 for i in range(len(x.shape))] for at in (begin, begin + size))
        t.let(result, sliced(t, x, tuple(starts), tuple(ends), [1] * len(x.shape), result.shape))
        begin += size


@translates("concatenate")
def _concatenate(t: Translator, operation: Operation) -> None:
    parts, (result,) = [t.whole(value) for value in operation.arguments], operation.results
    axis = operation.settings["dimension"]
    t.let(result, parts[0] if len(parts) == 1 else t.add("Concat", parts, result.shape, axis=axis))


@translates("stack")
def _stack(t: Translator, operation: Operation) -> None:
    (result,), axis = operation.results, operation.settings["axis"]
    shape = [1 if i == axis else size for i, size in enumerate(result.shape)]
    parts = [t.reshaped(t.whole(value), shape) for value in operation.arguments]
    t.let(result, parts[0] if len(parts) == 1 else t.add("Concat", parts, result.shape, axis=axis))


@translates("pad")
def _pad(t: Translator, operation: Operation) -> None:
    (result,), edges = operation.results, operation.settings["padding_config"]
    require(operation, all(inner == 0 for _, _, inner in edges))
    x, filler = t.whole(operation.arguments[0]), t.tensor(operation.arguments[1])
    starts = tuple(max(0, -low) for low, _, _ in edges)
    ends = tuple(size - max(0, -high) for size, (_, high, _) in zip(x.shape, edges, strict=True))
    inner = tuple(end - start for start, end in zip(starts, ends, strict=True))
    x = sliced(t, x, starts, ends, [1] * len(edges), inner)
    pads = [max(0, edge[side]) for side in (0, 1) for edge in edges]
    if any(pads):
        x = t.add("Pad", [x, t.constant(np.array(pads, np.int64)), filler], result.shape)
    t.let(result, x)


@translates("iota")
def _iota(t: Translator, operation: Operation) -> None:
    (result,), axis = operation.results, operation.settings["dimension"]
    require(operation, isinstance(result.shape[axis], int))
    shape = [1] * len(result.shape)
    shape[axis] = result.shape[axis]
    t.let(result, t.constant(np.arange(math.prod(shape), dtype=result.dtype).reshape(shape)))


@translates("gather")
def _gather(t: Translator, operation: Operation) -> None:
    """Rows of a table, as an embedding looks them up: whole but along one axis, of which each index takes one."""
    (table, where), (result,), settings = operation.arguments, operation.results, operation.settings
    numbers = settings["dimension_numbers"]
    (axis, *others) = numbers.start_index_map
    whole = tuple(1 if i == axis else size for i, size in enumerate(table.shape))
    batch = len(where.shape) - 1
    rest = tuple(range(batch, len(result.shape)))
    require(operation, not others and tuple(numbers.collapsed_slice_dims) == (axis,) and axis == 0)
    require(operation, not numbers.operand_batching_dims and tuple(settings["slice_sizes"]) == whole)
    require(operation, tuple(numbers.offset_dims) == rest and where.shape[-1] == 1)
    x, index = t.whole(table), t.cast(t.reshaped(t.whole(where), where.shape[:-1]), np.int64)
    last = t.constant(np.asarray(table.shape[0] - 1, np.int64))
    inside = t.each("Min", [t.each("Max", [index, t.constant(np.asarray(0, np.int64))]), last])
    t.let(result, t.add("Gather", [x, inside], result.shape, axis=0))
