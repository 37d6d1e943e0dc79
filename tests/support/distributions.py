"""Figures of distributions, compiled as wholes: every operation of its own would be a program of its own."""

from typing import Any

import jax

SAMPLES = 40_000

log_density: Any = jax.jit(lambda d, actions: d.logp(actions))
entropy: Any = jax.jit(lambda d: d.entropy())
sample: Any = jax.jit(lambda made, d, key, batch: d.sample(made.noise(key, batch)), static_argnums=(0, 3))
"""Samples of `d`, by noise of its action distribution `made`."""
