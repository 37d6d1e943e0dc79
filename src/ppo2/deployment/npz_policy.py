"""A policy that `ppo2 export RUN --numpy policy.npz` wrote, with NumPy alone: this file needs nothing else.

policy = Policy("policy.npz")
outputs = policy({"obs": observations})  # of a batch; {"action": ..., "value": ..., "logits": ...}
"""

import json
import math
from typing import Any

import numpy as np


class Policy:
    """Calling it computes the outputs from the inputs, by name; `inputs` has their dtypes and shapes, `about` more."""

    def __init__(self, path: Any) -> None:
        with np.load(path, allow_pickle=False) as file:
            self.about: dict[str, Any] = json.loads(file["about"].tobytes())
            self._arrays = {name: file[name] for name in file.files if name != "about"}
        self.inputs: dict[str, Any] = self.about["inputs"]

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        arrays = {name: np.asarray(inputs[name], of["dtype"]) for name, of in self.inputs.items()} | self._arrays
        with np.errstate(all="ignore"):
            for operator, reads, name, settings in self.about["nodes"]:
                arrays[name] = OPERATORS[operator](*[arrays[read] for read in reads], **settings)
        return {name: np.asarray(arrays[name]) for name in self.about["outputs"]}


def cast(x: Any, to: str) -> Any:
    if to != "bfloat16":
        return x.astype(to)
    bits = x.view(np.uint32)  # rounded to the upper 16 bits, halves to even
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def windows(x: Any, sizes: Any, strides: Any, pads: Any, dilations: Any = (1, 1, 1), filler: float = 0.0) -> Any:
    """Windows of images (B, C, ...) as (B, C, places, window)."""
    n = len(sizes)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)], constant_values=filler)
    spans = [(size - 1) * d + 1 for size, d in zip(sizes, dilations, strict=False)]
    view = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, 2 + n)))
    return view[(slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations[:n])))]


def conv(x: Any, w: Any, kernel_shape: Any, strides: Any, pads: Any, dilations: Any, group: int) -> Any:
    n, parts = len(kernel_shape), zip(np.split(x, group, 1), np.split(w, group), strict=True)
    axes = [1, *range(2 + n, 2 + 2 * n)], [1, *range(2, 2 + n)]
    views = [(windows(part, kernel_shape, strides, pads, dilations), kernel) for part, kernel in parts]
    return np.concatenate([np.moveaxis(np.tensordot(*pair, axes), -1, 1) for pair in views], 1)


def pool(reduce: Any, filler: float) -> Any:
    def pooled(x: Any, kernel_shape: Any, strides: Any, pads: Any, **_: Any) -> Any:
        n = len(kernel_shape)
        return reduce(windows(x, kernel_shape, strides, pads, filler=filler), tuple(range(-n, 0)))

    return pooled


def take(x: Any, starts: Any, ends: Any, axes: Any, steps: Any) -> Any:
    index = [slice(None)] * x.ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(*map(int, part))
    return x[tuple(index)]


OPERATORS: dict[str, Any] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum, "Pow": np.power,
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
    "Exp": np.exp, "Log": np.log, "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Sin": np.sin, "Cos": np.cos,
    "Tan": np.tan, "Asin": np.arcsin, "Acos": np.arccos, "Atan": np.arctan, "Sinh": np.sinh, "Cosh": np.cosh,
    "Tanh": np.tanh, "Asinh": np.arcsinh, "Acosh": np.arccosh, "Atanh": np.arctanh, "MatMul": np.matmul,
    "Div": lambda a, b: a / b if a.dtype.kind == "f" else np.trunc(a / b).astype(a.dtype),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Erf": np.vectorize(math.erf, otypes=[np.float32]),
    "Mod": lambda a, b, **_: np.fmod(a, b), "Cast": cast, "Identity": lambda x: x, "Where": np.where,
    "Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Not": np.logical_not, "Expand": np.broadcast_to, "Reshape": np.reshape,
    "Transpose": lambda x, perm: x.transpose(perm),
    "Concat": lambda *x, axis: np.concatenate(x, axis), "Gather": lambda x, i, axis: np.take(x, i, axis),
    "Shape": lambda x, start, end: np.array(x.shape[start:end]), "Slice": take,
    "Pad": lambda x, pads, by: np.pad(x, list(zip(pads[: x.ndim], pads[x.ndim :], strict=True)), constant_values=by),
    "ReduceSum": lambda x, axes, **_: x.sum(tuple(axes), x.dtype),
    "ReduceProd": lambda x, axes, **_: x.prod(tuple(axes), x.dtype),
    "ReduceMax": lambda x, axes, **_: x.max(tuple(axes)), "ReduceMin": lambda x, axes, **_: x.min(tuple(axes)),
    "ArgMax": lambda x, axis, **_: x.argmax(axis), "ArgMin": lambda x, axis, **_: x.argmin(axis),
    "Einsum": lambda *x, equation: np.einsum(equation, *x), "Conv": conv, "MaxPool": pool(np.max, -np.inf),
    "AveragePool": pool(np.mean, 0.0), "CumSum": lambda x, axis, reverse: _cumsum(x, int(axis), reverse),
}  # fmt: skip


def _cumsum(x: Any, axis: int, reverse: int) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis, x.dtype), axis) if reverse else np.cumsum(x, axis, x.dtype)
