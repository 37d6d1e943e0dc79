"""A network of your own, in Equinox: layers with a shortcut around each.

Usage: python examples/own_network.py --total-timesteps 50000

A network maps one observation, without a batch axis, to features; the library adds the heads for actions and value.
A builder, such as `residual` here, gets the shape of the observation and a key that follows the run's seed.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import tyro

import ppo2


class Residual(eqx.Module):
    first: eqx.nn.Linear
    layers: list[eqx.nn.Linear]

    def __init__(self, inputs: int, width: int, depth: int, *, key: Any) -> None:
        keys = jax.random.split(key, depth + 1)
        self.first = eqx.nn.Linear(inputs, width, key=keys[0])
        self.layers = [eqx.nn.Linear(width, width, key=one) for one in keys[1:]]

    def __call__(self, obs: Any) -> Any:
        features = jax.nn.tanh(self.first(obs))
        for layer in self.layers:
            features = features + jax.nn.tanh(layer(features))
        return features


def residual(width: int = 64, depth: int = 2) -> Callable[..., Residual]:
    return lambda input_shape, *, key: Residual(input_shape[0], width, depth, key=key)


def main(total_timesteps: int = 20_000, seed: int = 0) -> None:
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    settings |= {"network": residual, "width": 32}  # arguments of the builder are arguments of `learn`
    model = ppo2.learn(env="CartPole-v1", **settings)
    print(f"mean return {ppo2.evaluate(model, 'CartPole-v1', episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
