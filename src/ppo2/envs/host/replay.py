"""Exact resume of host environments: an environment's place in its episodes, their seeds, and saved states."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from ppo2.envs.host.env_types import AnyEnv, NDArray

State = Mapping[str, NDArray]

REPLAY_LIMIT = 10_000
"""Steps of an episode beyond which its actions are no longer kept."""
UNSEEDED = -1
"""Seed of an environment that was reset without one."""


@runtime_checkable
class SavableEnv(Protocol):
    """An environment that saves its state itself, for `load_state` of another one that was just made.

    The state must hold everything that later steps and resets depend on, random numbers included. A wrapper around it
    with a state of its own, such as a time limit, hides these methods: then its episode is replayed.
    """

    def save_state(self) -> State: ...

    def load_state(self, state: State, /) -> None: ...


class EpisodeReplay(NamedTuple):
    """Directions to bring an environment to its place in a running episode.

    Attributes:
        steps, returns: steps since the reset, and the sum of their rewards.
        actions: the actions of these steps, (steps, ...) for each leaf of the action space; None: they weren't kept.
        state: state that the environment saved itself, which is preferred to actions; else None.
    """

    steps: int
    returns: float
    actions: list[NDArray] | None
    state: State | None


class EpisodePosition(NamedTuple):
    """Seeds of N environments, from which all their episodes' seeds derive, and numbers of the running episodes."""

    seeds: NDArray
    episodes: NDArray


class ReplayError(Exception):
    """An environment can't be brought to its place; the message gives the reason."""


def episode_seed(seed: int, episode: int) -> int:
    """Seed (31 bits) of an episode of an environment; episode 0 has the environment's own.

    The finaliser of SplitMix64 (Steele et al. 2014), so that neighbours have nothing in common.
    """
    if episode == 0:
        return seed
    mixed = (seed + episode * 0x9E3779B97F4A7C15) & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) & (2**31 - 1)


def load_state(env: AnyEnv, state: State) -> None:
    """Gives an environment the state that another one saved; raises ReplayError if it can't load any."""
    savable = _savable(env)
    if savable is None:
        raise ReplayError("it can't take up the state that it saved")
    savable.load_state(state)


def save_state(env: AnyEnv) -> State | None:
    """State that an environment saves of itself; None if it can't, or gives no dict of numeric arrays.

    A user's class may have methods of these names for purposes of its own: whatever they raise means that it can't.
    """
    savable: Any = _savable(env)
    try:
        state = {name: np.asarray(array) for name, array in savable.save_state().items()}
    except Exception:
        return None
    return state if all(type(name) is str and x.dtype.kind in "biufc" for name, x in state.items()) else None


def _savable(env: AnyEnv) -> SavableEnv | None:
    while isinstance(env, gym.wrappers.FlattenObservation):  # a wrapper without a state
        env = env.env
    return env if isinstance(env, SavableEnv) else None


def generator_state(generator: np.random.Generator) -> NDArray:
    """State of a random number generator as bytes."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def restore_generator(generator: np.random.Generator, state: NDArray) -> None:
    """Inverse of `generator_state`."""
    generator.bit_generator.state = json.loads(state.tobytes())
