"""Action masks from `info["action_mask"]`, as arrays; tests/training has what is learned under them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2.envs.families.masks import ALL_LEGAL, MaskedVectorEnv, read_mask
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import vector

NESTED = Dict({"a": Discrete(2), "b": Tuple([MultiDiscrete([2, 3]), Box(-1, 1, (2,))])})


def test_a_mask_is_read_part_by_part() -> None:
    """Choices of a MultiDiscrete stand side by side; a Box has one number, which is always 1."""
    read = read_mask(NESTED, {"a": [True, False], "b": ([[0, 1], [0.5, 0, -3]], "anything")})
    assert read["a"].tolist() == [1, 0]
    assert [part.tolist() for part in read["b"]] == [[0, 1, 1, 0, 1], [1]]
    assert read["a"].dtype == np.int8


def test_parts_without_a_mask_are_legal() -> None:
    read = read_mask(NESTED, {"a": [0, 1]})
    assert read["a"].tolist() == [0, 1]
    assert [part.tolist() for part in read["b"]] == [[1] * 5, [1]]
    assert read_mask(NESTED, ALL_LEGAL)["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ({"c": [0, 1]}, r"info\['action_mask'\] = .* expected a dict of masks, by a, b"),
        ({"b": [[0, 1, 1, 0, 1]]}, r"info\['action_mask'\]\['b'\] = .* expected a tuple of 2 masks"),
        ({"a": None}, r"info\['action_mask'\]\['a'\] = None; expected 2 numbers, for the actions of Discrete"),
    ],
)
def test_a_part_that_does_not_fit_is_named(mask: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        read_mask(NESTED, mask)


class Counted(gym.Env[Any, Any]):
    """Step t of an episode of `length` steps allows action t alone."""

    observation_space = Box(-1, 1, (1,))
    action_space = Discrete(4)

    def __init__(self, length: int) -> None:
        self.length = length

    def _outcome(self) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {"action_mask": np.eye(4, dtype=np.int8)[self.t]}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._outcome()

    def step(self, action: Any) -> Any:
        self.t += 1
        obs, info = self._outcome()
        return obs, 1.0, False, self.t == self.length, info


def legal(obs: Any) -> list[Any]:
    """The legal action of each environment; "all" where all are."""
    return ["all" if mask.all() else int(mask.argmax()) for mask in obs["action_mask"]]


def test_masks_of_a_vector_with_same_step_autoreset() -> None:
    """Episodes of 3 and 2 steps: where one ends there is the next one's first mask, and a final one of all actions."""
    env = MaskedVectorEnv(vector(lambda: Counted(3), lambda: Counted(2), mode=AutoresetMode.SAME_STEP))
    assert legal(env.reset(seed=0)[0]) == [0, 0]
    assert env.single_observation_space["action_mask"] == Box(0, 1, (4,), np.int8)
    assert legal(env.step(np.array([0, 0]))[0]) == [1, 1]
    obs, *_, infos = env.step(np.array([1, 1]))
    assert legal(obs) == [2, 0]
    assert infos["final_obs"][1]["action_mask"].tolist() == [1, 1, 1, 1]


def test_masks_of_a_vector_with_next_step_autoreset() -> None:
    """All actions are legal where an episode ends; the step after that begins the next one."""
    env = MaskedVectorEnv(vector(lambda: Counted(3), lambda: Counted(2), mode=AutoresetMode.NEXT_STEP))
    seen = [legal(env.reset(seed=0)[0]), *(legal(env.step(np.array([0, 0]))[0]) for _ in range(4))]
    assert seen == [[0, 0], [1, 1], [2, "all"], ["all", 0], [0, 1]]


# --- masks that come late, or by a method


class Taught(gym.Env[Any, Any]):
    """Fails at an illegal action. At step t of five, the legal ones are those of `rule(t)`."""

    observation_space: Any = Box(-1, 1, (1,))
    action_space: Any = Discrete(4)

    def rule(self) -> Any:
        return np.array([self.t % 2 == 0, False, self.t % 2 == 1, True])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.t >= 5 or np.asarray(self.rule())[action], f"{action} is illegal"
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= 5, False, {}


class ByMethod(Taught):
    def action_masks(self) -> Any:
        return self.rule() if self.t < 5 else None  # at the end nobody needs one


class ByStepAlone(Taught):
    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= 5, False, {"action_mask": self.rule()}


class Vanishing(ByStepAlone):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, _ = super().reset(seed=seed)
        return obs, {"action_mask": self.rule()}

    def step(self, action: Any) -> Any:
        *outcome, info = super().step(action)
        return *outcome, info if self.t < 3 else {}


class Plural(Taught):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return super().reset(seed=seed)[0], {"action_masks": self.rule()}


class PluralByStep(Taught):
    def step(self, action: Any) -> Any:
        self.t += 1
        return np.zeros(1, np.float32), 1.0, self.t >= 5, False, {"action_masks": self.rule()}


class WrongShape(ByMethod):
    def rule(self) -> Any:
        return np.ones(3)


class NoneLegal(ByMethod):
    def rule(self) -> Any:
        return np.zeros(4) if self.t == 2 else np.ones(4)


class Continuous(Taught):
    action_space = Box(-1, 1, (4,))

    def action_masks(self) -> Any:
        return np.ones(4)


class Masker(gym.Wrapper[Any, Any, Any, Any]):
    """sb3-contrib's `ActionMasker`."""

    def action_masks(self) -> Any:
        return self.env.unwrapped.rule()  # type: ignore[attr-defined]


SMALL: dict[str, Any] = {"nsteps": 16, "nminibatches": 2, "noptepochs": 1, "seed": 0}


@pytest.mark.parametrize("form", ["factory", "instance", "wrapper", "SAME_STEP", "NEXT_STEP", "DISABLED", "async"])
def test_a_method_is_asked(form: str) -> None:
    """The environment raises at an illegal action."""
    env: Any
    match form:
        case "factory":
            env = ByMethod
        case "instance":
            env = ByMethod()
        case "wrapper":
            env = gym.wrappers.TimeLimit(Masker(Taught()), 50)
        case "async":
            env = gym.vector.AsyncVectorEnv([ByMethod] * 2, context="spawn")
        case _:
            env = vector(ByMethod, ByMethod, mode=AutoresetMode[form])
    try:
        model = ppo2.learn(env=env, total_timesteps=128, num_envs=2 if env is ByMethod else None, **SMALL)
    finally:
        if form == "async":
            env.close()
    assert model.observation_space["action_mask"] == Box(0, 1, (4,), np.int8)
    assert ppo2.evaluate(model, ByMethod, episodes=2, deterministic=False).lengths.tolist() == [5, 5]


def test_a_method_is_asked_in_workers_and_by_make() -> None:
    gym.register("Taught-v0", entry_point=ByMethod)
    env = ppo2.make("Taught-v0", num_envs=2, workers=1)
    model = ppo2.learn(env=env, network="lstm", total_timesteps=64, **SMALL)
    env.close()
    gym.registry.pop("Taught-v0")
    assert int(model.state.counters.updates) == 2


def test_masks_of_several_choices_may_lie_side_by_side() -> None:
    class Two(ByMethod):
        action_space = MultiDiscrete([2, 3])

        def rule(self) -> Any:
            return np.array([0, 1, 1, 0, 0])

        def step(self, action: Any) -> Any:
            assert action.tolist() == [1, 0]
            return super().step(0)

    class Free(Two):
        def step(self, action: Any) -> Any:
            assert action.tolist() == [1, 0]
            self.t += 1
            return np.zeros(1, np.float32), 1.0, self.t >= 5, False, {}

    assert ppo2.learn(env=Free(), total_timesteps=16, **SMALL) is not None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (ByStepAlone, r"\.step\(\) gave info\['action_mask'\], but the first reset gave none"),
        (Vanishing, r"gave no info\['action_mask'\] at a step"),
        (PluralByStep, r"\.step\(\) gave info\['action_masks'\]; masks are read from info\['action_mask'\]"),
        (Plural, r"gives info\['action_masks'\] at a reset; masks are read from info\['action_mask'\]"),
        (WrongShape, r"action_masks\(\).* = .*; expected 4 numbers"),
        (NoneLegal, r"no legal action"),
        (Continuous, r"`env` gives action_masks\(\), but its actions are Box"),
    ],
)
@pytest.mark.parametrize("form", ["factory", "instance", "vector"])
def test_a_mask_is_never_ignored(kind: type[Taught], words: str, form: str) -> None:
    forms: dict[str, Any] = {"factory": kind, "instance": kind(), "vector": gym.vector.SyncVectorEnv([kind])}
    if kind is Vanishing:
        words = words.replace("info", "infos?").replace(" at a step", "")
    with pytest.raises(ValueError, match=words):
        ppo2.learn(env=forms[form], total_timesteps=16, num_envs=1, **SMALL)


def test_an_environment_whose_later_reset_has_the_first_mask_is_refused() -> None:
    class Second(Taught):
        count = 0

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            Second.count += 1
            return super().reset(seed=seed)[0], {"action_mask": self.rule()} if Second.count > 3 else {}

        def rule(self) -> Any:
            return np.ones(4)

    with pytest.raises(ContractError, match=r"Second\.reset\(\) gave info\['action_mask'\]"):
        ppo2.learn(env=Second, total_timesteps=32, num_envs=2, **SMALL)


def test_a_method_of_an_environment_made_elsewhere_is_refused() -> None:
    with pytest.raises(ContractError, match="environment 1 has a method `action_masks`"):
        HostVectorEnv([Taught, ByMethod])
