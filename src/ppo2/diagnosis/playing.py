"""Random actions, and a record of what they bring about; without JAX."""

import time
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.subject import Actions, Budget, Case, Episode, NDArray, Part, Play, parts_of
from ppo2.envs.host import contract
from ppo2.envs.host.env_types import traits_of
from ppo2.envs.host.episode_statistics import EPISODE
from ppo2.spaces import MASK_KEY

SHARE = 0.25
"""Share of all the time that random actions get."""
MOST_STEPS, MOST_EPISODES = 20_000, 300
"""Steps and episodes that are enough."""
BATCH = 64
"""Observations that are summed up at once."""
GAMMA = 0.99
"""Discount of the returns whose size is judged."""


class Collector:
    """Observations on their way into a record."""

    def __init__(self, space: spaces.AnySpace) -> None:
        self.parts = parts_of(space)
        self._space, self._unmasked = space, spaces.unmasked(space)
        self._waiting: list[list[NDArray]] = [[] for _ in self.parts]

    def add(self, obs: Any) -> None:
        """Takes an observation."""
        if obs is None:
            return
        obs = obs["observation"] if spaces.is_masked(self._space) else obs
        for part, waiting, leaf in zip(self.parts, self._waiting, arrays(self._unmasked, obs), strict=True):
            note(part, np.asarray(leaf))
            waiting.append(np.array(leaf, copy=True))
        if len(self._waiting[0]) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Sums up what is waiting."""
        for part, waiting in zip(self.parts, self._waiting, strict=True):
            if waiting:
                part.add(np.stack(waiting))
                waiting.clear()


def arrays(space: Any, obs: Any) -> Iterator[Any]:
    """The arrays of an observation, in the order of `named`."""
    if not isinstance(space, spaces.COMPOSITE):
        yield obs
        return
    inner = space.spaces.items() if hasattr(space.spaces, "items") else enumerate(space.spaces)
    for key, part in inner:
        yield from arrays(part, obs[key])


def note(part: Part, array: NDArray) -> None:
    """Notes what is wrong with an observation, once of each kind."""
    space = part.space
    if array.dtype.kind == "f" and not part.broken and not np.isfinite(array).all():
        wrong = array[~np.isfinite(array)].flat[0] if array.ndim else array
        part.broken = f"{wrong} at {_place(~np.isfinite(array))}"
    if isinstance(space, gym.spaces.Box):
        if not part.dtype and array.dtype != space.dtype:
            part.dtype = str(array.dtype)
        if not part.outside and array.shape == space.shape:
            with np.errstate(all="ignore"):
                beyond = (array < space.low) | (array > space.high)
            if beyond.any():
                where = np.unravel_index(int(np.argmax(beyond)), beyond.shape) if beyond.ndim else ()
                bounds = f"[{space.low[where]:.4g}, {space.high[where]:.4g}]"
                part.outside = f"{array[where]:.4g} at {_place(beyond)}, declared within {bounds}"


def _place(wrong: NDArray) -> str:
    """The index of the first number that is wrong, in words."""
    if wrong.ndim == 0:
        return "its only number"
    where = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return f"[{', '.join(str(int(i)) for i in where)}]"


def random_play(case: Case) -> Iterator[Finding]:
    """Plays random episodes. No finding is made of them here."""
    env, space = case.env, case.facts["observation_space"]
    collector = Collector(space)
    play = case.play = Play(collector.parts)
    actions = Actions(case.facts["action_space"], case.subject.seed)
    counts = traits_of(case.subject.make).counts_episodes
    masked: list[float] = []
    repeats: list[bool] = []
    budget = iter(Budget(SHARE * case.subject.seconds))
    over, first, before, rewards = True, b"", None, list[float]()
    obs: Any = None
    while next(budget, None) is not None and play.steps < MOST_STEPS and len(play.episodes) < MOST_EPISODES:
        if over:
            began = time.perf_counter()
            obs, _ = contract.unpack_reset(env, env.reset(seed=case.subject.seed if before is None else None))
            play.reset_seconds.append(time.perf_counter() - began)
            first, rewards = _bits(space, obs), []
        elif obs is before and not isinstance(obs, int | float | np.generic):
            play.reuses = True
        collector.add(obs)
        if spaces.is_masked(space):
            masked.append(_allowed(obs[MASK_KEY]))
        before, action = obs, actions.draw(obs)
        began = time.perf_counter()
        returned = env.step(action)
        play.step_seconds.append(time.perf_counter() - began)
        obs, reward, terminated, truncated, info = contract.checked_step(env, returned, 0)
        play.steps += 1
        if counts and isinstance(info.get(EPISODE), dict):
            play.counted.append(float(np.asarray(info[EPISODE]["r"])))
        play.rewards.append(reward)
        rewards.append(reward)
        truncated = truncated or (case.limit is not None and len(rewards) >= case.limit)
        over = terminated or truncated
        if over:
            collector.add(obs)
            repeats.append(len(rewards) > 1 and _bits(space, obs) == first)
            play.episodes.append(episode(rewards, terminated=bool(terminated)))
        play.unfinished = max(play.unfinished, 0 if over else len(rewards))
    collector.flush()
    play.repeats_start = len(repeats) > 2 and all(repeats) and any(np.any(part.std > 0) for part in play.parts)
    play.masked = float(np.mean(masked)) if masked else None
    yield from ()


def episode(rewards: list[float], *, terminated: bool) -> Episode:
    """An episode from its rewards."""
    discounted, squares = 0.0, 0.0
    for reward in reversed(rewards):
        discounted = reward + GAMMA * discounted
        squares += discounted**2
    return Episode(float(np.sum(rewards)), len(rewards), squares, terminated)


def _bits(space: spaces.AnySpace, obs: Any) -> bytes:
    return b"" if obs is None else b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in spaces.leaves(space, obs))


def _allowed(mask: Any) -> float:
    """The share of choices that a mask allows."""
    if isinstance(mask, dict):
        mask = tuple(mask.values())
    if isinstance(mask, tuple):
        return float(np.mean([_allowed(part) for part in mask])) if mask else 1.0
    return float(np.mean(np.asarray(mask) != 0))
