"""The translation of traced functions: the graph that is written to, and where each value is in it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ppo2.deployment.graph import Dimension, Graph, Node, Tensor
from ppo2.numerics.traced import Operation, Traced, Value

NARROW = ("bfloat16", "float16")
"""Floats that runtimes on CPUs don't compute with: here they are float32, rounded after each operation."""


class NotExportableError(ValueError):
    """A network does something for which there is no translation here."""


def require(operation: Operation, holds: bool) -> None:
    """Raises NotExportableError unless a condition of an operation's translation holds."""
    if not holds:
        settings = ", ".join(f"{name}={value}" for name, value in operation.settings.items() if value is not None)
        raise NotExportableError(
            f"the network needs JAX's operation {operation.name!r} ({settings}), which has no translation to ONNX "
            "here. Write that part with other operations, or export to StableHLO, which takes any network."
        )


class Translator:
    """A graph to which the operations of traced functions are added.

    An array may have size 1 along an axis where the value that it stands for has more numbers, all the same: ONNX'
    operators stretch it, as NumPy does. `whole` is for those that don't.

    Args:
        graph: its first input tells the size of a batch.
        translations: by the operation's name.
    """

    def __init__(self, graph: Graph, translations: Mapping[str, "Translation"]) -> None:
        self.graph, self._translations = graph, translations
        self._tensors: dict[Value, Tensor] = {}

    def run(self, traced: Traced, fixed: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Adds a function's operations; returns its outputs, whole.

        Args:
            fixed: the function's first argument.
            inputs: leaves of its second one.

        Raises:
            NotExportableError: there is no translation for one of them.
        """
        for value, tensor in zip(traced.varying, inputs, strict=True):
            self._tensors[value] = self.cast(tensor, np.float32) if tensor.dtype.name in NARROW else tensor
        for value, number in traced.fixed_numbers(fixed).items():
            self._tensors[value] = self.constant(number)
        for operation in traced.operations:
            require(operation, not traced.has_effects)
            if operation.varies:
                self.translate(operation)
        outputs = [(self.whole(value), np.dtype(value.dtype)) for value in traced.outputs]
        return [
            self.add("Cast", [tensor], tensor.shape, dtype, to=dtype.name) if dtype.name in NARROW else tensor
            for tensor, dtype in outputs
        ]

    def translate(self, operation: Operation) -> None:
        """Adds an operation; raises NotExportableError where it has no translation."""
        require(operation, operation.name in self._translations)
        self._translations[operation.name](self, operation)

    # --- where values are -----------------------------------------------------------------------------------------

    def let(self, value: Value, tensor: Tensor) -> None:
        """Says where a value is."""
        self._tensors[value] = self.rounded(tensor, value.dtype)

    def tensor(self, value: Value) -> Tensor:
        """The array of a value, which is to be stretched."""
        if value.number is not None and value not in self._tensors:
            self._tensors[value] = self.constant(value.number)
        return self._tensors[value]

    def whole(self, value: Value) -> Tensor:
        """The array of a value, in the value's own shape."""
        tensor = self.tensor(value)
        if tensor.shape == value.shape:
            return tensor
        return self.add("Expand", [tensor, self.sizes(value.shape)], value.shape)

    # --- adding ---------------------------------------------------------------------------------------------------

    def add(
        self, operator: str, inputs: Sequence[Tensor], shape: Sequence[Dimension], dtype: Any = None, **attributes: Any
    ) -> Tensor:
        """Adds an operator; its output has the dtype of the first input unless another is given."""
        names = [tensor.name for tensor in inputs]
        return self.graph.add(operator, names, shape, inputs[0].dtype if dtype is None else dtype, **attributes)

    def each(self, operator: str, inputs: Sequence[Tensor], dtype: Any = None, **attributes: Any) -> Tensor:
        """Adds an operator that works number by number, stretching its inputs."""
        shape = stretched([tensor.shape for tensor in inputs])
        return self.add(operator, inputs, shape, dtype, **attributes)

    def constant(self, array: Any) -> Tensor:
        """An array that doesn't change."""
        array = np.asarray(array)
        return self.graph.constant(array.astype(np.float32) if array.dtype.name in NARROW else array)

    def cast(self, tensor: Tensor, dtype: Any) -> Tensor:
        """The numbers in another dtype."""
        dtype = np.dtype(dtype)
        if dtype.name in NARROW:
            return self.rounded(self.cast(tensor, np.float32), dtype)
        return tensor if tensor.dtype == dtype else self.add("Cast", [tensor], tensor.shape, dtype, to=dtype.name)

    def rounded(self, tensor: Tensor, dtype: Any) -> Tensor:
        """Floats rounded to one of the narrow dtypes, if `dtype` is one."""
        name = np.dtype(dtype).name
        if name not in NARROW:
            return tensor
        narrow = self.graph.add("Cast", [tensor.name], tensor.shape, np.float32, to=name)
        return self.graph.add("Cast", [narrow.name], tensor.shape, np.float32, to="float32")

    def reshaped(self, tensor: Tensor, shape: Sequence[Dimension]) -> Tensor:
        """The numbers in another shape; of several changes of shape only the last is made."""
        before = self._made_by("Reshape", tensor)
        if before is not None:
            return self.reshaped(self.graph.tensors[before.inputs[0]], shape)
        if tuple(shape) == tensor.shape:
            return tensor
        unknown = [i for i, size in enumerate(shape) if not isinstance(size, int)]
        if len(unknown) > 1:
            raise NotExportableError(
                f"the network has an array of the shape {shape}: several axes depend on the batch."
            )
        sizes = np.array([-1 if i in unknown else size for i, size in enumerate(shape)], np.int64)
        return self.add("Reshape", [tensor, self.constant(sizes)], shape)

    def permuted(self, tensor: Tensor, order: Sequence[int]) -> Tensor:
        """The axes in another order; of several changes of order only their product is made."""
        before = self._made_by("Transpose", tensor)
        if before is not None:
            first: Sequence[int] = before.attributes["perm"]
            return self.permuted(self.graph.tensors[before.inputs[0]], [first[i] for i in order])
        if list(order) == sorted(order):
            return tensor
        if tensor.name in self.graph.constants:
            return self.constant(np.ascontiguousarray(self.graph.constants[tensor.name].transpose(order)))
        return self.add("Transpose", [tensor], [tensor.shape[i] for i in order], perm=list(order))

    def _made_by(self, operator: str, tensor: Tensor) -> Node | None:
        """The operator that makes an array, if it is this one."""
        node = self.graph.maker(tensor.name)
        return node if node is not None and node.operator == operator else None

    def sizes(self, shape: Sequence[Dimension]) -> Tensor:
        """A shape as an array, for operators that take one as an input."""
        if all(isinstance(size, int) for size in shape):
            return self.constant(np.array(shape, np.int64))
        first = next(iter(self.graph.inputs.values()))
        batch = first.shape[0]
        if any(not isinstance(size, int) and size != batch for size in shape):
            raise NotExportableError(
                f"the network has an array of the shape {tuple(shape)}, made from the batch's size."
            )
        size = self.add("Shape", [first], (1,), np.int64, start=0, end=1)
        parts = [self.constant(np.array([one], np.int64)) if isinstance(one, int) else size for one in shape]
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, (len(shape),), np.int64, axis=0)


Translation = Callable[[Translator, Operation], None]


def stretched(shapes: Sequence[tuple[Dimension, ...]]) -> tuple[Dimension, ...]:
    """The shape that arrays are stretched to, as NumPy does."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))
