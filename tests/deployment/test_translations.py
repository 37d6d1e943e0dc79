"""Each translation does as JAX does, in onnxruntime and in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ppo2.deployment.graph import Graph, Tensor
from ppo2.deployment.npz_file import npz_act, npz_bytes
from ppo2.deployment.policy_graph import TABLE
from ppo2.deployment.translator import Translator
from ppo2.numerics.traced import Traced

onnx_file = pytest.importorskip("ppo2.deployment.onnx_file")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X = np.array([[0.3, -1.7, 2.0, -0.2], [1.0, 0.0, -3.5, 0.9]], np.float32)
WHOLE = np.array([[3, -7, 0, 5], [2, 2, -1, 8]], np.int32)
BYTES = np.array([[3, 7, 0, 255], [2, 2, 1, 8]], np.uint8)
CUBE = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10
IMAGES = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 2, 3, 5)).astype(np.float32)

OF_FLOATS = [
    lambda x: x + 1 - x * x / 3, lambda x: jnp.maximum(x, 0.5) - jnp.minimum(x, -0.5), lambda x: jnp.abs(x) ** 1.5,
    lambda x: x**3, jnp.square, lambda x: -x, jnp.sign, jnp.floor, jnp.ceil, jnp.round, jnp.exp, jnp.exp2, jnp.expm1,
    lambda x: jnp.log1p(jnp.abs(x)), lambda x: jnp.log(jnp.abs(x) + 1), lambda x: jnp.sqrt(jnp.abs(x)), jnp.cbrt,
    lambda x: lax.rsqrt(jnp.abs(x) + 1), jnp.tanh, jnp.sin, jnp.cos, jnp.tan, lambda x: jnp.arcsin(x / 4),
    lambda x: jnp.arccos(x / 4), jnp.arctan, jnp.sinh, jnp.cosh, jnp.arcsinh, lambda x: jnp.arccosh(jnp.abs(x) + 2),
    lambda x: jnp.arctanh(x / 4), jax.nn.sigmoid, lax.erf, lax.erfc, lambda x: jnp.isfinite(x / 0.0 * x),
    lambda x: lax.rem(x, jnp.float32(0.7) * jnp.ones_like(x)), lambda x: jnp.clip(x, -1, 1),
    lambda x: (x == 0) | ((x < 1) & (x <= 0.3)) ^ (x > 2) | ~(x >= -1) | (x != 0.9),
    lambda x: jnp.where(x > 0, x, 2 * x),
    lambda x: jnp.where(x > 0, x > 1, x < -1), lambda x: x.astype(jnp.int32), lambda x: (x > 0).astype(jnp.float32),
    lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), lambda x: (x.astype(jnp.bfloat16) * 3).astype(jnp.float32),
    lambda x: x.astype(jnp.float16).astype(jnp.float32), lambda x: lax.reduce_precision(x, 8, 7),
    lambda x: x.sum(1), lambda x: x.prod(), lambda x: x.max(0), lambda x: x.min(1), lambda x: (x > 0).any(1),
    lambda x: (x > -5).all(), lambda x: jnp.argmax(x, 1), lambda x: jnp.argmin(x, 0), lambda x: jnp.cumsum(x, 1),
    lambda x: lax.cumsum(x, 0, reverse=True), jax.nn.softmax, jax.nn.log_softmax, jax.nn.gelu, jax.nn.softplus,
    lambda x: jax.nn.gelu(x, approximate=False), jax.nn.elu, jax.nn.silu,
    lambda x: x.reshape(4, 2).T[:, None, ::2], lambda x: jnp.flip(x, (0, 1)), lambda x: jnp.split(x, [1, 2], 1),
    lambda x: jnp.concatenate([x, 2 * x], 1), lambda x: jnp.stack([x, x + 1], 1), lambda x: x[:, 1:3],
    lambda x: lax.pad(x, jnp.float32(-7), [(0, 1, 0), (-1, 2, 0)]), lambda x: x + jnp.arange(4.0),
    lambda x: jnp.broadcast_to(x[:, :1], (2, 4)) * 2, lambda x: jnp.broadcast_to(x[0], (3, 4)),
    lambda x: jnp.asarray(X.T)[(x > 0).astype(jnp.int32)], lambda x: x @ X.T, lambda x: X.T @ x, lambda x: x @ x.T,
    lambda x: jnp.dot(X[0], x[1]), lambda x: lax.scan(lambda s, row: (s * 0.5 + row, s + 1), jnp.zeros(4), x),
    lambda x: lax.scan(lambda s, row: (s + row, row @ jnp.asarray(X.T)), x[0], x, reverse=True),
    lambda x: lax.fori_loop(0, 3, lambda i, y: y * i + 1, x),
]  # fmt: skip
OF_OTHERS = [
    (WHOLE, lambda x: x // 2 + x % 3 - lax.div(x, jnp.int32(2) * jnp.ones_like(x))), (WHOLE,
    lambda x: jnp.maximum(x, 1)),
    (WHOLE, lambda x: x.sum(1)), (WHOLE, lambda x: jax.nn.one_hot(x, 4)), (WHOLE, lambda x: x.astype(jnp.int8) * 2),
    (BYTES, lambda x: x + x), (BYTES, lambda x: x.max(1)), (BYTES, lambda x: jnp.where(x > 2, x, 7)), (BYTES,
    lambda x: x != 0),
    (BYTES, lambda x: jnp.argmax(x, 1)), (BYTES, lambda x: x.astype(jnp.float32) / 255),
    (CUBE, lambda x: jnp.einsum("bij,bkj->bik", x, 2 * x)), (CUBE, lambda x: jnp.einsum("bij,bij->b", x, x)),
    (CUBE, lambda x: x @ X.T), (CUBE, lambda x: jnp.tensordot(X, x, ((1,), (2,)))), (CUBE,
    lambda x: x.transpose(2, 0, 1)),
    (CUBE, lambda x: jnp.moveaxis(jnp.moveaxis(x, 0, -1), -1, 0) + 1), (CUBE, lambda x: x.max((0, 2), keepdims=True)),
]  # fmt: skip


def convolved(x, dimensions=("NHWC", "HWIO", "NHWC"), **how):
    how = {"window_strides": (1, 1), "padding": "VALID", **how}
    return lax.conv_general_dilated(x, KERNEL, dimension_numbers=dimensions, **how)


OF_IMAGES = [
    convolved, lambda x: convolved(x, window_strides=(2, 3), padding="SAME"),
    lambda x: convolved(x, rhs_dilation=(2, 1)),
    lambda x: convolved(x.transpose(0, 3, 1, 2), ("NCHW", "HWIO", "NCHW")),
    lambda x: lax.conv_general_dilated(x, KERNEL[:, :, :1, :3],
    (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                       feature_group_count=3),
    lambda x: lax.conv_general_dilated(x[:, :, 0], KERNEL[:, 0], (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
    lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 2, 1), (1, 2, 2, 1), "SAME"),
    lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 1, 1), "VALID"),
    lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME"),
    lambda x: lax.reduce_window(x[0], -jnp.inf, lax.max, (3, 2, 1), (2, 2, 1), "SAME"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("x", "function"), [*((X, f) for f in OF_FLOATS), *OF_OTHERS, *((IMAGES, f) for f in OF_IMAGES)]
)
def test_translation(x, function):
    traced = Traced(lambda _, x: function(x), (), x)
    graph = Graph([Tensor("x", x.shape, x.dtype)])
    found = Translator(graph, TABLE).run(traced, (), [graph.inputs["x"]])
    graph.finish({f"y{i}": tensor for i, tensor in enumerate(found)})
    expected = jax.tree.leaves(function(jnp.asarray(x)))
    for act in (onnx_file.onnx_act(onnx_file.onnx_bytes(graph, {})), npz_act(npz_bytes(graph, {}))):
        for mine, right in zip(act({"x": x}).values(), expected, strict=True):
            assert (mine.shape, mine.dtype) == (right.shape, right.dtype)
            np.testing.assert_allclose(mine, np.asarray(right), rtol=2e-6, atol=2e-6)
