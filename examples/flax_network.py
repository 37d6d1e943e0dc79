"""A network in Flax: a Linen module, saved and loaded.

Usage: python examples/flax_network.py --total-timesteps 50000

A module of Flax NNX and a Keras model on JAX are given in the same way.
"""

from typing import Any, cast

import flax.linen as nn
import numpy as np
import tyro

import ppo2


class Network(nn.Module):
    """Features of a batch of observations; the library adds the heads for actions and value."""

    width: int = 64

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        features = nn.LayerNorm()(nn.Dense(self.width)(obs))
        return nn.tanh(nn.Dense(self.width)(nn.tanh(features)))


def main(total_timesteps: int = 20_000, seed: int = 0, file: str = "runs/flax.safetensors") -> None:
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(env="CartPole-v1", **{**settings, "network": Network(width=32)})

    model.save(file)
    model = ppo2.load(file, network=Network(width=32))  # the file has the weights, and no code
    module, variables = cast(Any, model.policy.trunk).unwrap()  # Flax's own, with the trained weights
    assert module.apply(variables, np.zeros((1, 4))).shape == (1, 32)
    print(f"mean return {ppo2.evaluate(model, 'CartPole-v1', episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
