"""Graphs of ONNX operators, whatever they are written to."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

NDArray: TypeAlias = np.ndarray[Any, Any]
Dimension: TypeAlias = Any
"""A size: an int, or JAX's symbol for the number of observations in a batch."""

OPSET = 18
"""Version of ONNX' operators that the graphs are of: runtimes have known it since 2023."""


class Tensor(NamedTuple):
    """An array in a graph, by the name under which it is stored there."""

    name: str
    shape: tuple[Dimension, ...]
    dtype: np.dtype[Any]


class Node(NamedTuple):
    """An operator, by ONNX' name, with the names of the arrays that it reads and makes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


class Graph:
    """Operators in order, between named inputs and outputs.

    Attributes:
        inputs, outputs: by name.
        nodes: the operators.
        constants: the arrays that don't change, by name.
        tensors: all arrays, by name.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = {tensor.name: tensor for tensor in inputs}
        self.outputs: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.constants: dict[str, NDArray] = {}
        self.tensors = dict(self.inputs)
        self._names: dict[tuple[Any, ...], str] = {}
        self._made: dict[str, Node] = {}
        self._count = 0

    def add(
        self, operator: str, inputs: Sequence[str], shape: Sequence[Dimension], dtype: Any, **attributes: Any
    ) -> Tensor:
        """Adds an operator with one output; the same one again is the same array."""
        key = (operator, tuple(inputs), repr(sorted(attributes.items())))
        if key not in self._names:
            self._names[key] = name = self._new_name()
            self._made[name] = node = Node(operator, tuple(inputs), (name,), attributes)
            self.nodes.append(node)
            self.tensors[name] = Tensor(name, tuple(shape), np.dtype(dtype))
        return self.tensors[self._names[key]]

    def maker(self, name: str) -> Node | None:
        """The operator that makes an array; None of inputs and constants."""
        return self._made.get(name)

    def constant(self, array: Any) -> Tensor:
        """An array that doesn't change."""
        array = np.asarray(array)
        key = (array.shape, str(array.dtype), array.tobytes())
        if key not in self._names:
            self._names[key] = name = self._new_name("c")
            self.constants[name] = array
            self.tensors[name] = Tensor(name, array.shape, array.dtype)
        return self.tensors[self._names[key]]

    def finish(self, outputs: Mapping[str, Tensor]) -> None:
        """Gives the outputs their names, and drops all that they don't need."""
        self.outputs = {name: tensor._replace(name=name) for name, tensor in outputs.items()}
        needed, kept = {tensor.name for tensor in outputs.values()}, list[Node]()
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                kept.append(node)
        renamed: dict[str, str] = {}
        for name, tensor in outputs.items():
            if self.maker(tensor.name) is not None and renamed.setdefault(tensor.name, name) == name:
                continue
            kept.insert(0, Node("Identity", (tensor.name,), (name,), {}))
        self.nodes = [
            node._replace(
                inputs=tuple(renamed.get(name, name) for name in node.inputs),
                outputs=tuple(renamed.get(name, name) for name in node.outputs),
            )
            for node in reversed(kept)
        ]
        self.constants = {name: array for name, array in self.constants.items() if name in needed}

    def _new_name(self, kind: str = "t") -> str:
        self._count += 1
        return f"{kind}{self._count}"
