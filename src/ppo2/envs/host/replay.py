"""Exact resume of host environments: an environment's place in its episodes, their seeds, and saved states."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

from ppo2.envs.host.env_types import AnyEnv, NDArray
from ppo2.envs.host.failures import ContractError
from ppo2.system.calls import takes

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

    `load_state` may return the observation, which is compared with the one before; if it returns None, the episode's
    actions are repeated as well, where they lead to the same place (`bring_to_place`).
    """

    def save_state(self) -> State: ...

    def load_state(self, state: State, /) -> Any: ...


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


def bring_to_place(
    env: AnyEnv, state: State | None, is_there: Callable[[Any], bool], repeat: Callable[[], None]
) -> None:
    """Brings an environment to its place in an episode, by the state that it saved or by its actions.

    What can be compared must be equal: the observation that `load_state` returns, else the one that the actions lead
    to; and the state that the environment saves again. A user's class may have methods of these names for purposes of
    its own, so where there is no observation to compare, actions come first.

    Args:
        state: the state that it saved; None if it saved none.
        is_there: compares an observation with the one of the place.
        repeat: repeats the actions, or raises ReplayError.

    Raises:
        ReplayError: neither brings it there.
    """
    if state is None:
        repeat()
        return
    failed: ReplayError | None = None
    try:
        obs = load_state(env, state)
        if obs is not None and is_there(obs):
            return
        if obs is not None:
            failed = ReplayError("the state that it saved led it elsewhere")
    except (ReplayError, ContractError) as error:
        failed = error if isinstance(error, ReplayError) else ReplayError(f"its load_state gave {error}")
    try:
        repeat()
    except ReplayError as error:
        if failed is not None:
            raise failed from error
        load_state(env, state)
    else:
        if failed is None and not _is_same(save_state(env), state):  # what it carries over from episodes before
            load_state(env, state)


def load_state(env: AnyEnv, state: State) -> Any:
    """Gives an environment the state that another one saved. Returns the observation, None if it gives none.

    Raises:
        ReplayError: it can't load any, or saves another state then.
    """
    savable = _savable(env)
    if savable is None:
        raise ReplayError("it can't take up the state that it saved")
    try:
        obs = savable.load_state({name: array.copy() for name, array in state.items()})
    except Exception as error:
        raise ReplayError(f"its load_state raised {type(error).__name__}: {error}") from error
    if not _is_same(save_state(env), state):
        raise ReplayError("its load_state didn't take up all of the state that it saved")
    return None if obs is None else _wrapped(env, obs)


def save_state(env: AnyEnv) -> State | None:
    """State that an environment saves of itself; None if it can't, or gives no dict of numeric arrays.

    A user's class may have methods of these names for purposes of its own: whatever they raise means that it can't.
    """
    savable: Any = _savable(env)
    try:
        state = {name: np.array(array) for name, array in savable.save_state().items()}
    except Exception:
        return None
    return state if all(type(name) is str and x.dtype.kind in "biufc" for name, x in state.items()) else None


def _wrapped(env: AnyEnv, obs: Any) -> Any:
    """The observation as the wrappers give it that `_savable` looks through."""
    return env.observation(_wrapped(env.env, obs)) if isinstance(env, gym.wrappers.FlattenObservation) else obs


def _is_same(state: State | None, other: State) -> bool:
    return (
        state is not None
        and state.keys() == other.keys()
        and all(array.shape == other[name].shape for name, array in state.items())
        and all(array.tobytes() == other[name].astype(array.dtype).tobytes() for name, array in state.items())
    )


def _savable(env: AnyEnv) -> SavableEnv | None:
    while isinstance(env, gym.wrappers.FlattenObservation):  # a wrapper without a state
        env = env.env
    if isinstance(env, SavableEnv) and takes(env.save_state, 0) and takes(env.load_state, 1):
        return env
    return None


def generator_state(generator: np.random.Generator) -> NDArray:
    """State of a random number generator as bytes."""
    return np.frombuffer(json.dumps(generator.bit_generator.state).encode(), np.uint8)


def restore_generator(generator: np.random.Generator, state: NDArray) -> None:
    """Inverse of `generator_state`."""
    generator.bit_generator.state = json.loads(state.tobytes())
