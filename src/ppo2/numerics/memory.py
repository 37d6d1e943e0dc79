"""Estimates of the memory that a function needs, from its trace: nothing is compiled or computed.

The model is XLA's, in outline. Values that are needed at the same time lie side by side. A value that follows others
number by number is fused into whatever takes it, and has no room of its own, unless a matrix product, a convolution or
a loop takes it: these read their arguments from memory. Left out are the scratch memory of libraries and the losses of
the allocator between its blocks. Compared with `memory_analysis` of compiled programs (tests/numerics/test_memory.py),
an estimate is between 0.5 and 1.7 of what XLA takes: 1.6 for an MLP's gradient, 0.9 for Nature's CNN, 0.7 for an LSTM.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import jax

from ppo2.numerics.compilation import memory_limit


class Kind(Enum):
    """The kinds of operations that take memory differently."""

    VIEW = auto()
    """The result is the argument, seen in another way."""
    ELEMENTWISE = auto()
    """Fused, or in the place of an argument that nothing else needs."""
    FUSED = auto()
    """Fused, but of another shape or order than its arguments."""
    ROOT = auto()
    """The result has room of its own; arguments may be fused into it."""
    READER = auto()
    """The result has room of its own; arguments are read from memory."""


FUSIBLE = (Kind.VIEW, Kind.ELEMENTWISE, Kind.FUSED)
VIEWS = {"reshape", "squeeze", "expand_dims", "stop_gradient", "copy", "copy_p", "bitcast_convert_type"}
READERS = {"dot_general", "conv_general_dilated", "sort", "scatter", "scatter-add", "gather", "triangular_solve"}
ROOTS = ("reduce", "arg", "cum")
"""Beginnings of the names of primitives of that kind."""


class Step(NamedTuple):
    """One operation of a trace.

    `sizes`: bytes of its results; `inner`: most bytes that it needs while it runs, beyond arguments and results.
    """

    inputs: list[int]
    sizes: dict[int, int]
    kind: Kind
    inner: int


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """The most bytes of values that live at once while `function` runs, its results with them and its arguments not.

    Args:
        arguments: arrays, or objects that have their shapes and dtypes alone.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    return _peak(jax.make_jaxpr(function)(*shapes).jaxpr)


SHARE = 8
"""Part of a device's memory, one in so many, that the activations of one piece may take."""
MOST_ACTIVATIONS = 2**31
"""Bytes beyond which a piece gains nothing: 6,000 images in Nature's CNN with their gradient. A constant wherever the
device has room for it, as the size of pieces decides about the last bits of results."""


def activation_limit() -> int:
    """The most bytes of activations of one piece on the devices in use: a power of 2."""
    limit = memory_limit()
    room = MOST_ACTIVATIONS if limit is None else min(MOST_ACTIVATIONS, limit // SHARE)
    return 1 << max(0, room.bit_length() - 1)


# --- traces -------------------------------------------------------------------------------------------------------


class Steps:
    """The operations of a trace, those of functions that it calls written out among them."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._count = 0

    def new(self, values: Sequence[Any]) -> list[int]:
        """Numbers for new values."""
        first = self._count + 1
        self._count += len(values)
        return list(range(first, self._count + 1))

    def add(self, jaxpr: Any, inputs: Sequence[int]) -> list[int]:
        """Adds the operations of `jaxpr` on values; returns the numbers of its results. 0 is a constant."""
        numbers: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True)) | dict.fromkeys(jaxpr.constvars, 0)

        def number(var: Any) -> int:
            return 0 if hasattr(var, "val") else numbers[var]

        for eqn in jaxpr.eqns:
            given, name = [number(var) for var in eqn.invars], eqn.primitive.name
            bodies = inner_traces(eqn)
            if len(bodies) == 1 and len(bodies[0].invars) == len(given) and name not in ("scan", "while"):
                results = self.add(bodies[0], given)
            else:
                results = self.new(eqn.outvars)
                sizes = dict(zip(results, map(_size, eqn.outvars), strict=True))
                self.steps.append(Step(given, sizes, _kind(eqn, bodies), max(map(_peak, bodies), default=0)))
            numbers |= zip(eqn.outvars, results, strict=True)
        return [number(var) for var in jaxpr.outvars]


def _size(var: Any) -> int:
    """Bytes of a value; 0 of a random key, whose dtype has no size."""
    return math.prod(getattr(var.aval, "shape", ())) * getattr(getattr(var.aval, "dtype", None), "itemsize", 0)


def inner_traces(eqn: Any) -> list[Any]:
    """The traces of the functions that an operation calls."""
    leaves = jax.tree.leaves(dict(eqn.params), is_leaf=lambda x: hasattr(x, "eqns"))
    return [getattr(leaf, "jaxpr", leaf) for leaf in leaves if hasattr(leaf, "eqns")]


def _kind(eqn: Any, bodies: Sequence[Any]) -> Kind:
    name = eqn.primitive.name
    if name in VIEWS:
        return Kind.VIEW
    if bodies or name in READERS:
        return Kind.READER
    if name.startswith(ROOTS):
        return Kind.ROOT
    shapes = {var.aval.shape for var in (*eqn.invars, *eqn.outvars) if getattr(var.aval, "shape", ())}
    return Kind.ELEMENTWISE if len(shapes) <= 1 and name != "rev" else Kind.FUSED


def _peak(jaxpr: Any) -> int:
    """`peak_bytes` of a trace."""
    found = Steps()
    results = found.add(jaxpr, found.new(jaxpr.invars))
    steps = found.steps
    end, stored = _lives(steps, results)
    live, most, freed = 0, 0, Counter[int]()
    for i, step in enumerate(steps):
        sizes = {value: size for value, size in step.sizes.items() if value in stored}
        if step.kind is Kind.ELEMENTWISE:
            live -= freed.pop(i, 0)
        live += sum(sizes.values())
        most = max(most, live + step.inner)
        for value, size in sizes.items():
            freed[max(i, end[value])] += size
        live -= freed.pop(i, 0)
    return most


def _lives(steps: Sequence[Step], results: Sequence[int]) -> tuple[Counter[int], set[int]]:
    """The step until which each value is needed, and the values that have room of their own."""
    end, stored = Counter(dict.fromkeys(results, len(steps))), set(results)
    for i, step in reversed(list(enumerate(steps))):
        is_stored = any(value in stored for value in step.sizes)
        if step.kind not in FUSIBLE:
            stored |= set(step.sizes)
        # a value that is seen in another way, or fused into others, is needed as long as these are
        lasts = step.kind is Kind.VIEW or (step.kind in FUSIBLE and not is_stored)
        until = max([i, *(end[value] for value in step.sizes)]) if lasts else i
        for value in step.inputs:
            end[value] = max(end[value], until)
        if step.kind is Kind.READER or (step.kind is Kind.VIEW and is_stored):
            stored |= set(step.inputs)
        if step.kind is Kind.VIEW:
            stored -= set(step.sizes)  # its argument's room
    return end, stored
