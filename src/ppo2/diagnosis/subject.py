"""The environment to be checked, and what was learned of it so far."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import cloudpickle
import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.device.env import is_device_env
from ppo2.envs.families.factories import Options, OwnFactory
from ppo2.envs.families.masks import MaskedEnv
from ppo2.envs.host.env_types import AnyEnv, EnvTraits, traits_of

Kind: TypeAlias = Literal["host", "vector", "device", "own"]
NDArray: TypeAlias = np.ndarray[Any, Any]
DEFAULT = "default"
"""Name of the family of all environments that no other one is for."""


@dataclass(frozen=True)
class Subject:
    """An environment to be checked; it travels to another process.

    Attributes:
        name: name for people.
        kind: "host": of Gymnasium; "vector": one of its vector environments; "device": in JAX; "own": what a user's
            function makes, which shows once it is made.
        make: makes it, as training would.
        is_one: `make` gives the same object at each call.
        exists: it was given as an object, so that training has as many environments as there are.
        threshold: the return at which it counts as solved; None: unknown.
        preset: arguments of `learn` that suit its family.
        family, source: the family's name, and the origin of its settings; None, "": there is none.
        command: the words after `ppo2 train` that name it; None: the command line can't.
        env, kwargs: the `env` of `learn`, as it is written, and its `env_kwargs`.
        seconds: seconds that all checks may take, about.
        timeout: seconds that one call of the environment may take.
        seed: seed of actions and environments.
    """

    name: str
    kind: Kind
    make: Callable[[], Any]
    preset: dict[str, Any]
    is_one: bool = False
    exists: bool = False
    family: str | None = None
    source: str = ""
    threshold: float | None = None
    command: str | None = None
    env: str = "..."
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 20.0
    timeout: float = 10.0
    seed: int = 0

    @property
    def is_known(self) -> bool:
        """True if its family's preset was made for it, as runs have shown."""
        return self.family not in (None, DEFAULT)


class Own(EnvTraits):
    """Makes environments, of whatever kind, by a user's function or class.

    Args:
        factory, kwargs, options: see `OwnFactory`, which is for those of Gymnasium.
    """

    def __init__(self, factory: Callable[..., Any], kwargs: Mapping[str, Any], options: Options) -> None:
        self.max_episode_steps = options.max_episode_steps
        self._factory, self._kwargs, self._options = factory, kwargs, options

    def __call__(self) -> Any:
        made = self._factory(**self._kwargs)
        if is_device_env(made):
            if self._options != Options():
                raise ValueError(
                    f"{self._options} are for environments of Gymnasium, and this one is on the device: leave them out "
                    "(ppo2.envs.TimeLimit is a time limit there)."
                )
            return made
        return OwnFactory(lambda: made, {}, self._options)()


def kind_of(env: Any) -> Kind:
    """The kind of an environment."""
    return "host" if isinstance(env, gym.Env) else "vector" if isinstance(env, gym.vector.VectorEnv) else "device"


class Copies:
    """Makes copies of one environment."""

    def __init__(self, env: Any) -> None:
        self._packed = packed(env)

    def __call__(self) -> Any:
        return unpacked(self._packed)


def packed(content: Any) -> bytes:
    """Anything as bytes, for a process that this one starts, or for a copy."""
    found: bytes = cloudpickle.dumps(content)
    return found


def unpacked(content: bytes) -> Any:
    """The content of bytes that `packed` made here or in the process that started this one."""
    return cloudpickle.loads(content)


@dataclass
class Part:
    """Observations of one part of the space, summed up: over all, and number by number.

    Attributes:
        name: "" of a single array, else the keys that lead to it.
        space: its space.
        outside: the first observation that is beyond the declared bounds, in words; "" if there is none.
        broken: the first number that is not finite, in words; "" if there is none.
        dtype: the dtype in which it comes, where that isn't the declared one; else "".
    """

    name: str
    space: spaces.AnySpace
    count: int = 0
    low: Any = None
    high: Any = None
    total: Any = 0.0
    squares: Any = 0.0
    outside: str = ""
    broken: str = ""
    dtype: str = ""

    def add(self, array: NDArray) -> None:
        """Adds a batch of observations, (n, ...)."""
        values = array.astype(np.float64)
        with np.errstate(all="ignore"):
            low, high = values.min(0), values.max(0)
            self.low = low if self.low is None else np.minimum(self.low, low)
            self.high = high if self.high is None else np.maximum(self.high, high)
            self.total = self.total + values.sum(0)
            self.squares = self.squares + np.square(values).sum(0)
        self.count += len(array)

    @property
    def mean(self) -> NDArray:
        """Means, number by number."""
        return np.asarray(self.total / max(self.count, 1))

    @property
    def std(self) -> NDArray:
        """Standard deviations, number by number."""
        with np.errstate(all="ignore"):
            return np.asarray(np.sqrt(np.maximum(self.squares / max(self.count, 1) - np.square(self.mean), 0.0)))


@dataclass
class Episode:
    """A random episode: return, length, discounted returns' squares, and how it ended."""

    r: float
    length: int
    squares: float
    terminated: bool


@dataclass
class Play:
    """Record of random actions.

    Attributes:
        parts: the observations.
        rewards: rewards of all steps.
        episodes: episodes that ended.
        counted: returns of those that the environment counts itself, where only these are logged.
        steps: number of steps of one environment.
        unfinished: length of the longest episode that did not end.
        step_seconds, reset_seconds: durations of single calls (of one environment).
        repeats_start: True if all episodes ended with the observation that they began with.
        masked: share of actions that masks allowed; None: there are no masks.
        reuses: True if observations came in the same memory again.
    """

    parts: list[Part]
    rewards: list[float] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)
    steps: int = 0
    unfinished: int = 0
    step_seconds: list[float] = field(default_factory=list)
    reset_seconds: list[float] = field(default_factory=list)
    repeats_start: bool = False
    masked: float | None = None
    reuses: bool = False


class Case:
    """A subject under examination: its environment, what it did, and the time that is left.

    Attributes:
        kind: its kind, which for "own" shows once it is made.
        env: the environment; None until it is made.
        play: record of random actions; None until they were tried.
        deterministic: False where the same seed and actions gave something else; None: unknown.
        facts: numbers and names for the proposal.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, self.kind, self.env = subject, subject.kind, None
        self.play: Play | None = None
        self.deterministic: bool | None = None
        self.facts: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}

    env: Any

    def fresh(self) -> AnyEnv:
        """Another environment; the same where there is only one."""
        if self.subject.is_one and self.env is not None:
            env: AnyEnv = self.env
            return env
        made: AnyEnv = self.subject.make()
        return MaskedEnv(made, by_method=self.env.by_method) if isinstance(self.env, MaskedEnv) else made

    @property
    def limit(self) -> int | None:
        """Steps after which every episode is cut, where the factory says so."""
        return traits_of(self.subject.make).max_episode_steps


class Budget:
    """Seconds for something, from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    def __iter__(self) -> Iterator[int]:
        """Numbers, as long as there is time."""
        number = 0
        while time.perf_counter() < self._end:
            yield number
            number += 1


class Actions:
    """Random actions of a space, with a random state of their own."""

    def __init__(self, space: spaces.AnySpace, seed: int) -> None:
        self._space: Any = copy.deepcopy(space)  # the random state of its own is the environment's
        self._space.seed(seed)

    def draw(self, obs: Any = None) -> Any:
        """An action; a legal one where `obs` has a mask."""
        if isinstance(obs, dict) and spaces.MASK_KEY in obs:
            try:
                return self._space.sample(obs[spaces.MASK_KEY])
            except (AssertionError, ValueError):  # NumPy's bool, for which Gymnasium wants int8
                return self._space.sample(_as_int8(obs[spaces.MASK_KEY]))
        return self._space.sample()


def _as_int8(mask: Any) -> Any:
    if isinstance(mask, dict):
        return {key: _as_int8(part) for key, part in mask.items()}
    return tuple(map(_as_int8, mask)) if isinstance(mask, tuple) else np.asarray(mask, np.int8)


def parts_of(space: spaces.AnySpace) -> list[Part]:
    """The parts of a space, without a mask."""
    return [Part(name, part) for name, part in named(spaces.unmasked(space))]


def named(space: Any, name: str = "") -> Iterator[tuple[str, spaces.AnySpace]]:
    """The arrays of a space with their names, in its own order."""
    if not isinstance(space, spaces.COMPOSITE):
        yield name, space
        return
    inner = space.spaces.items() if hasattr(space.spaces, "items") else enumerate(space.spaces)
    for key, part in inner:
        yield from named(part, f"{name}/{key}".strip("/"))
