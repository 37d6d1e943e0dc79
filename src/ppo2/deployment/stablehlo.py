"""Policies as StableHLO, in the file format of `jax.export`."""

from typing import Any

import jax
import numpy as np
from jax import export

from ppo2.deployment.policy_function import Act, Named, PolicyFunction, named, symbolic
from ppo2.deployment.translator import NotExportableError
from ppo2.numerics.compilation import compiled, portable

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stablehlo_bytes(function: PolicyFunction) -> bytes:
    """The policy as `jax.export` has it: a function of a dict of arrays, for a batch of any size, without 64 bits.

    Raises:
        NotExportableError: observations need more than 32 bits.
    """
    model = function.model
    if any(origin.any() for origin in jax.tree.leaves(model.state.normaliser.origins())):
        raise NotExportableError(
            "`stablehlo`: the observations are so far from 0 that 32 bits, which is all that JAX has by default, don't "
            "hold what the policy sees of them. Export to ONNX or for NumPy."
        )
    learned = jax.device_get((model.state.params, model.state.normaliser))

    def act(inputs: Named) -> Named:
        params, normaliser = jax.tree.map(jax.numpy.asarray, learned)
        seen = function.named_obs(normaliser.on_device(function.structured(inputs)[0]))
        actions, outputs = function.decided((params, normaliser), inputs | seen)
        return named("action", model.distribution.to_environment(actions)) | outputs

    with portable():
        (batch,) = export.symbolic_shape("batch")
        program: Any = compiled(act)
        exported = export.export(program, platforms=PLATFORMS)(symbolic(function.on_device, batch))
    return bytes(exported.serialize())


def stablehlo_act(content: bytes, function: PolicyFunction) -> Act:
    """The policy in a file of `stablehlo_bytes`."""
    exported = export.deserialize(bytearray(content))

    def act(inputs: Named) -> Named:
        given = {name: np.asarray(inputs[name], of.dtype) for name, of in function.on_device.items()}
        found: Any = exported.call(given)
        return jax.device_get(found)  # type: ignore[no-any-return]

    return act
