"""Environments in the middle of an episode: what is kept of them, and how another process brings them there again."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from ppo2 import spaces

NDArray = np.ndarray[Any, Any]
State = Mapping[str, NDArray]

REPLAY_LIMIT = 10_000
"""Steps of an episode after which its actions are no longer kept."""
UNSEEDED = -1


def episode_seed(seed: int, episode: int) -> int:
    """31 bits for an episode of an environment with a seed of its own: episode 0 has that very one.

    The finaliser of SplitMix64 (Steele et al. 2014), so that neighbours have nothing in common.
    """
    if episode == 0:
        return seed
    mixed = (seed + episode * 0x9E3779B97F4A7C15) & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) & (2**31 - 1)


@runtime_checkable
class SavableEnv(Protocol):
    """An environment that can save its state itself, which `load_state` gives to another one that was just made.

    It must hold everything that later steps and resets depend on, its random numbers included. A wrapper around it
    that has a state of its own, such as a time limit, hides it: the episode is replayed then, as of any environment.
    """

    def save_state(self) -> State: ...

    def load_state(self, state: State, /) -> None: ...


class EpisodeReplay(NamedTuple):
    """How to bring an environment to where it was in an episode that its seed began.

    Attributes:
        steps, returns: since its reset, and the sum of their rewards.
        actions: those that it took, (steps, ...) for each leaf of the action space; None: they weren't kept.
        state: what it saved itself, which goes before actions.
    """

    steps: int
    returns: float
    actions: list[NDArray] | None
    state: State | None


class EpisodePosition(NamedTuple):
    """Of N environments: the seeds that all their episodes are made from, and which episode is running, (N,) each."""

    seeds: NDArray
    episodes: NDArray


class ReplayError(Exception):
    """An environment that can't be brought to where it was; the message says why."""


def savable_env(env: gym.Env[Any, Any]) -> SavableEnv | None:
    """Who saves an environment's state, if all of it is saved then."""
    while isinstance(env, gym.wrappers.FlattenObservation):  # which has no state
        env = env.env
    return env if isinstance(env, SavableEnv) else None


def replay_actions(
    env: gym.Env[Any, Any], begin: Callable[[], Any], actions: list[NDArray], apart: Callable[[Any], Any]
) -> tuple[Any, float]:
    """Begins an episode and takes the actions again; the observation that comes last, and the sum of rewards.

    Raises:
        Unreachable: the episode ended on the way.
    """
    obs, returns = begin(), 0.0
    leaves = iter(actions)
    batch = spaces.mapped(lambda _: next(leaves), env.action_space)
    for done, action in enumerate(apart(batch), start=1):
        obs, reward, terminated, truncated, _ = env.step(action)
        returns += float(reward)
        if terminated or truncated:
            raise ReplayError(f"its episode ended at step {done} of {len(actions[0])} when its actions were repeated")
    return obs, returns


def saved_state(env: gym.Env[Any, Any]) -> State | None:
    """What an environment saves of itself; None where it can't, or what it gives is no dict of arrays of numbers.

    Its methods may be its own affair, and only be called as ours are.
    """
    keeper = savable_env(env)
    if keeper is None:
        return None
    try:
        state = {name: np.asarray(array) for name, array in keeper.save_state().items()}
    except Exception:  # of whatever else it may be
        return None
    return state if all(type(name) is str and x.dtype.kind in "biufc" for name, x in state.items()) else None


def generator_state(generator: np.random.Generator) -> NDArray:
    """The state of a random number generator as bytes."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def restore_generator(generator: np.random.Generator, state: NDArray) -> None:
    """The inverse of `generator_state`."""
    generator.bit_generator.state = json.loads(state.tobytes())
