"""Infos of several environments as one dict: what Gymnasium's own function gives, and what it can't hold."""

from typing import Any

import gymnasium as gym
import numpy as np

from ppo2.envs.host.infos import EnvInfo, gathered, kept


def theirs(given: list[dict[str, Any]]) -> dict[str, Any]:
    env, infos = gym.vector.VectorEnv[Any, Any, Any](), dict[str, Any]()
    env.num_envs = len(given)
    for i, info in enumerate(given):
        infos = env._add_info(infos, info, i)
    return infos


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one.dtype == other.dtype and [*map(repr, one)] == [*map(repr, other)]


def test_infos_are_gathered_as_gymnasium_does() -> None:
    given: list[dict[str, Any]] = [
        {"a": 1, "b": 0.5, "c": None, "d": np.ones(2), "e": "text", "flag": True, "np": np.float32(2)},
        {"a": 2, "nested": {"x": 1, "deep": {"y": 2.0}}, "flag": np.bool_(True), "list": [1, 2]},
        {"b": 1.5, "nested": {"x": 3}, "d": np.zeros(2), "np": np.float32(3), "odd": np.int8(3)},
        {},
    ]
    del given[1]["flag"]
    found = gathered([EnvInfo(i, info) for i, info in enumerate(given)], len(given))
    assert same(found, theirs(given)), found


def test_values_that_do_not_fit_together_are_kept_as_they_are() -> None:
    given = [{"n": 1, "a": np.ones(2), "m": 1, "d": {"x": 1}}, {"n": 0.5, "a": np.ones(3), "m": "no", "d": 7}]
    found = gathered([EnvInfo(i, info) for i, info in enumerate(given)], 2)
    assert found["n"].tolist() == [1, 0.5]
    assert [x.shape for x in found["a"]] == [(2,), (3,)]
    assert found["m"].tolist() == [1, "no"]
    assert found["d"].tolist() == [{"x": 1}, 7]
    huge = gathered([EnvInfo(0, {"n": 10**30})], 1)
    assert huge["n"].tolist() == [10**30]


def test_a_kept_info_does_not_change_with_the_environments() -> None:
    info = {"array": np.zeros(2), "nested": {"x": np.zeros(1)}, "n": 1}
    copy = kept(info)
    info["array"][:] = 1
    info["nested"]["x"][:] = 1
    info["n"] = 2
    assert copy["array"].tolist() == [0, 0]
    assert copy["nested"]["x"].tolist() == [0]
    assert copy["n"] == 1
