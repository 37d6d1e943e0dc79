"""Action masks from `info["action_mask"]`: read, made part of observations, and obeyed."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import envs, spaces
from ppo2.agent.model import Model
from ppo2.envs.families.masks import ALL_LEGAL, MaskedEnv, MaskedVectorEnv, read_mask
from ppo2.envs.host.failures import ContractError
from support.environments import LegalInInfo, vector

SMALL: dict[str, Any] = {
    "num_envs": 3,
    "nsteps": 8,
    "nminibatches": 2,
    "noptepochs": 2,
    "total_timesteps": 48,
    "num_hidden": 8,
    "seed": 5,
}


def learn(**more: Any) -> Model:
    return ppo2.learn(**{**SMALL, **more})


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


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_masks_from_the_info_of_a_vector_environment(mode: AutoresetMode) -> None:
    env = vector(*[LegalInInfo] * 3, mode=mode)
    made = envs.resolve(env).env
    assert isinstance(made, MaskedVectorEnv)
    model = learn(env=env, num_envs=None)
    assert int(model.state.counters.updates) == 2
    assert spaces.is_masked(model.observation_space)


def test_masks_from_the_info_of_registered_environments() -> None:
    env = ppo2.make("Taxi-v4", num_envs=2)
    assert all(isinstance(one, MaskedEnv) for one in env.envs)
    model = learn(env="Taxi-v4")
    env.reset(seed=0)
    obs = env.reset(seed=0)[0]
    for _ in range(20):
        actions = model.step(obs)[0]
        assert all(mask[action] for mask, action in zip(obs["action_mask"], actions, strict=True))
        obs = env.step(actions)[0]


class Obeyed(gym.Env[Any, Any]):
    """An environment that gives `mask(t)` in info and asserts that actions obey it; truncated after 5 steps."""

    observation_space = Box(-1, 1, (1,))

    def __init__(self, mask: Any, action_space: Any = None, length: int = 5) -> None:
        self.mask, self.length, self.action_space = mask, length, action_space or Discrete(4)

    def _info(self) -> dict[str, Any]:
        self.given = self.mask(self.t)
        return {} if self.given is None else {"action_mask": self.given}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> Any:
        if isinstance(self.action_space, Discrete):
            assert self.given[action], f"{action} is illegal under {self.given}"
        elif isinstance(self.action_space, Dict):
            assert self.given["a"][action["a"]]
            assert all(self.given["b"][i] for i in (action["b"][0], 2 + action["b"][1]))
        else:
            assert self.given[0][action[0]]
        self.t += 1
        return np.zeros(1, np.float32), 1.0, False, self.t == self.length, self._info()


def only(t: int) -> Any:
    """One action of four, another each time."""
    return np.eye(4, dtype=np.int8)[t % 4]


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_masks_of_episodes_of_other_lengths(mode: AutoresetMode) -> None:
    env = vector(lambda: Obeyed(only), lambda: Obeyed(only, length=3), mode=mode)
    assert int(learn(env=env, num_envs=None).state.counters.updates) == 3


@pytest.mark.parametrize("scale", [256, 0.5])
def test_whatever_is_not_0_is_legal(scale: float) -> None:
    assert int(learn(env=lambda: Obeyed(lambda t: only(t).astype(int) * scale)).state.counters.updates) == 2


CHOICES = {"a": np.array([1, 0]), "b": np.array([0, 1, 1, 0, 0])}


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [
        (Dict({"a": Discrete(2), "b": MultiDiscrete([2, 3])}), CHOICES),
        pytest.param(Tuple([Discrete(2), Box(-1, 1, (2,))]), (np.array([0, 1]), None), marks=pytest.mark.slow),
    ],
    ids=["Dict", "Tuple"],
)
@pytest.mark.parametrize("is_vector", [False, True], ids=["factory", "vector"])
def test_masks_from_info_for_parts_of_actions(action_space: Any, mask: Any, is_vector: bool) -> None:
    def make() -> Any:
        return Obeyed(lambda t: mask, action_space)

    env = vector(make, make, mode=AutoresetMode.SAME_STEP) if is_vector else make
    assert int(learn(env=env, num_envs=None if is_vector else 3).state.counters.updates) > 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda t: only(t)[None], "expected 4 numbers, for the actions of Discrete"),
        (lambda t: [1, 0, 1], "expected 4 numbers"),
        (lambda t: np.full(4, np.nan), "expected 4 numbers"),
        (lambda t: ["a"] * 4, "expected 4 numbers"),
        (lambda t: only(t) if t == 0 else None, "gave no info"),
    ],
    ids=["rank", "size", "NaN", "text", "absent"],
)
def test_masks_from_info_that_do_not_fit_are_refused(mask: Any, message: str) -> None:
    for env, num_envs in (
        (lambda: Obeyed(mask), 2),
        (vector(lambda: Obeyed(mask), mode=AutoresetMode.NEXT_STEP), None),
    ):
        with pytest.raises(ValueError, match=message):
            learn(env=env, num_envs=num_envs, nminibatches=1)
