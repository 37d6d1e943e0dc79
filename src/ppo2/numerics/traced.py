"""Traced functions: JAX's operations in order, each of which either changes from call to call or doesn't."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive

from ppo2.numerics.compilation import compiled

CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint"}
"""Operations that call a function, whose own take their place."""
PASSED_ON = {"stop_gradient", "copy", "optimization_barrier"}
"""Operations whose results are their arguments."""


class Value:
    """An array of a traced function.

    Attributes:
        number: the array itself, of a constant; else None.
        varies: True if it may differ from call to call.
    """

    __slots__ = ("dtype", "number", "shape", "varies")

    def __init__(self, like: Any, *, number: Any = None, varies: bool = False) -> None:
        self.shape: tuple[int, ...] = tuple(like.shape)
        self.dtype: Any = like.dtype
        self.number, self.varies = number, varies


class Operation(NamedTuple):
    """An operation by the name of JAX's primitive, with the primitive's parameters, its arguments and its results."""

    name: str
    settings: dict[str, Any]
    arguments: list[Value]
    results: list[Value]
    primitive: Primitive

    @property
    def varies(self) -> bool:
        """True if its results may differ from call to call."""
        return self.results[0].varies

    def of(self, *arguments: Any) -> list[Any]:
        """The results for JAX's arrays."""
        found: Any = self.primitive.bind(*arguments, **self.settings)
        return list(found) if self.primitive.multiple_results else [found]


class Traced:
    """A function of two trees, the first of which seldom changes, as the operations that its result needs.

    Args:
        function: `function(fixed, varying)`; pure.
        fixed, varying: examples of its arguments, of which shapes and dtypes count.

    Attributes:
        fixed, varying: the leaves of the arguments.
        outputs: the leaves of the result.
        arguments, result: the trees that `varying` and the result are.
        operations: in order.
        has_effects: True if it does more than compute its result.
    """

    def __init__(self, function: Callable[[Any, Any], Any], fixed: Any, varying: Any) -> None:
        closed, result = jax.make_jaxpr(function, return_shape=True)(fixed, varying)
        self.arguments, self.result = jax.tree.structure(varying), jax.tree.structure(result)
        count = len(jax.tree.leaves(fixed))
        arguments = [Value(var.aval, varies=i >= count) for i, var in enumerate(closed.jaxpr.invars)]
        self.fixed, self.varying = arguments[:count], arguments[count:]
        self.has_effects = bool(closed.jaxpr.effects)
        found: list[Operation] = []
        self.outputs = _inlined(closed.jaxpr, closed.consts, arguments, found)
        self.operations = _needed(found, self.outputs)

    def fixed_numbers(self, fixed: Any) -> dict[Value, np.ndarray[Any, Any]]:
        """The numbers, made of the first argument alone, that the varying operations and the outputs need."""
        seldom = [operation for operation in self.operations if not operation.varies]
        used = [value for operation in self.operations if operation.varies for value in operation.arguments]
        wanted = [value for value in dict.fromkeys(used + self.outputs) if not value.varies and value.number is None]

        def made(leaves: Sequence[Any]) -> list[Any]:
            known = dict(zip(self.fixed, leaves, strict=True))
            for operation in seldom:
                operands = [known[x] if x.number is None else x.number for x in operation.arguments]
                known.update(zip(operation.results, operation.of(*operands), strict=True))
            return [known[value] for value in wanted]

        found = compiled(made)(jax.tree.leaves(fixed)) if wanted else []
        return dict(zip(wanted, map(np.asarray, found), strict=True))


def called(closed: ClosedJaxpr, arguments: Sequence[Value]) -> tuple[list[Operation], list[Value]]:
    """The operations, and the results, of a function that an operation has among its settings: the step of a loop."""
    found: list[Operation] = []
    outputs = _inlined(closed.jaxpr, closed.consts, arguments, found)
    return found, outputs


def _inlined(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Value], found: list[Operation]) -> list[Value]:
    """Adds a traced function's operations, and those of functions that it calls, to `found`. Returns its results."""
    known: dict[Any, Value] = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {var: Value(const, number=const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def value(atom: Any) -> Value:
        if not isinstance(atom, Literal):
            return known[atom]
        number = np.asarray(atom.val, atom.aval.dtype)  # type: ignore[attr-defined]
        return Value(number, number=number)

    for equation in jaxpr.eqns:
        operands, name = [value(atom) for atom in equation.invars], equation.primitive.name
        called = equation.params.get("jaxpr", equation.params.get("call_jaxpr")) if name in CALLS else None
        if name in PASSED_ON:
            results = operands
        elif isinstance(called, ClosedJaxpr):
            results = _inlined(called.jaxpr, called.consts, operands, found)
        elif isinstance(called, Jaxpr):
            results = _inlined(called, (), operands, found)
        else:
            # an array whose size isn't known is made from call to call, too
            results = [Value(var.aval) for var in equation.outvars]
            is_sized = all(isinstance(size, int) for result in results for size in result.shape)
            varies = any(x.varies for x in operands) or not is_sized
            for result in results:
                result.varies = varies
            found.append(Operation(name, equation.params, operands, results, equation.primitive))
        known.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _needed(operations: Sequence[Operation], outputs: Sequence[Value]) -> list[Operation]:
    """The operations that the outputs are made of."""
    needed, kept = set(outputs), list[Operation]()
    for operation in reversed(operations):
        if needed.intersection(operation.results):
            needed.update(operation.arguments)
            kept.append(operation)
    return kept[::-1]
