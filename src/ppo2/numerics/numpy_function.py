"""Traced functions evaluated by NumPy: for little work, done so often that calling a compiled program costs more."""

import contextvars
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ppo2.numerics.numpy_calls import NUMBERS, Calls, NDArray, UntranslatableError
from ppo2.numerics.numpy_translations import TRANSLATIONS, TRANSPOSED
from ppo2.numerics.traced import Operation, Traced, Value


class NumpyFunction:
    """A traced function as a list of NumPy's calls, with arrays of its own for everything in between.

    To be used by one thread at a time. Whatever NumPy finds in the numbers (overflow, NaN) is no error and no
    warning, as in a compiled program.

    Args:
        traced: the function.

    Attributes:
        products: multiplications of a call's matrix products.
        numbers: numbers that the rest of a call goes through.
        count: NumPy's calls in a call.

    Raises:
        UntranslatableError: NumPy can't do all of it.
    """

    def __init__(self, traced: Traced) -> None:
        if traced.has_effects:
            raise UntranslatableError("effects")
        calls = Calls()
        self._fixed, self._varying = ([calls.new(x) for x in values] for values in (traced.fixed, traced.varying))
        for operation in _with_transposed_products(traced):
            for value in (*operation.arguments, *operation.results):
                if value.dtype not in NUMBERS:  # the dtype of a random key is none of NumPy's
                    raise UntranslatableError(f"{operation.name} of {value.dtype}")
            if operation.name not in TRANSLATIONS:
                raise UntranslatableError(operation.name)
            calls.varies = operation.varies
            TRANSLATIONS[operation.name](calls, operation)
        self._outputs = [(calls.array(value), np.dtype(value.dtype)) for value in traced.outputs]
        self._arguments: Any = traced.arguments
        self._result: Any = traced.result
        self._calls, self._fixed_calls = calls.varying, calls.fixed
        self.products, self.numbers, self.count = calls.products, calls.numbers, len(calls.varying)
        # NumPy's handling of errors belongs to a context: to enter one costs less than to set it.
        self._context = contextvars.Context()
        self._context.run(np.seterr, all="ignore")

    def fix(self, fixed: Any) -> None:
        """Takes over the function's first argument, for all calls until the next."""
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(fixed)]
        for array, leaf in zip(self._fixed, leaves, strict=True):
            array[...] = leaf
        self._context.run(_make, self._fixed_calls)

    def __call__(self, *varying: Any) -> Any:
        """The function's result, given its second argument, a tuple, as new arrays."""
        return self._result.unflatten(self._context.run(self._called, self._arguments.flatten_up_to(varying)))

    def _called(self, leaves: Sequence[Any]) -> list[NDArray]:
        for array, leaf in zip(self._varying, leaves, strict=True):
            array[...] = leaf
        for function, arguments in self._calls:
            function(*arguments)
        return [output.astype(dtype) for output, dtype in self._outputs]


def _make(calls: Sequence[Any]) -> None:
    for function, arguments in calls:
        function(*arguments)


def _with_transposed_products(traced: Traced) -> list[Operation]:
    """The operations; where nothing is needed of a product but its transpose, it gives this at once."""
    uses = [value for operation in traced.operations for value in operation.arguments] + traced.outputs
    products = {operation.results[0] for operation in traced.operations if operation.name == "dot_general"}
    transposes: dict[Value, Operation] = {
        operation.arguments[0]: operation
        for operation in traced.operations
        if operation.name == "transpose"
        and tuple(operation.settings["permutation"]) == (1, 0)
        and operation.arguments[0] in products
        and uses.count(operation.arguments[0]) == 1
    }
    gone = set(map(id, transposes.values()))

    def replaced(operation: Operation) -> Operation:
        after = transposes.get(operation.results[0])
        if after is None:
            return operation
        return operation._replace(settings={**operation.settings, TRANSPOSED: True}, results=after.results)

    return [replaced(operation) for operation in traced.operations if id(operation) not in gone]
