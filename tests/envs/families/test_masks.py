"""Action masks from `info["action_mask"]`, as arrays; tests/training has what is learned under them."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

from ppo2.envs.families.masks import ALL_LEGAL, MaskedVectorEnv, read_mask
from ppo2.envs.host.failures import ContractError
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
