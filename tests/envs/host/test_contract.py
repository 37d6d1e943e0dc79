"""Environments that break Gymnasium's contract: one error each, whichever way they are given."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import ppo2
from ppo2.envs.host import contract
from ppo2.envs.host.failures import ContractError
from ppo2.envs.host.vector import HostVectorEnv

ZEROS = np.zeros(2, np.float32)
SETTINGS: dict[str, Any] = {"nsteps": 8, "nminibatches": 2, "noptepochs": 1, "seed": 0, "num_hidden": 4}


class Good(gym.Env[Any, Any]):
    """Two zeros; an episode of three steps."""

    observation_space: Any = gym.spaces.Box(-1, 1, (2,))
    action_space: Any = gym.spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return ZEROS, {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return ZEROS, 1.0, self.t >= 3, False, {}


class NoArguments(Good):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class SeedAlone(Good):
    def reset(self, seed: Any = None) -> Any:  # type: ignore[override]
        return super().reset(seed=seed)


class ObservationAlone(Good):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class NoReset(Good):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)


class NoInfo(Good):
    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], None


class NoSpace(Good):
    observation_space = None


class FourValues(Good):
    def step(self, action: Any) -> Any:
        obs, reward, over, _, info = super().step(action)
        return obs, reward, over, info


class NoInfoOfSteps(Good):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:4], None)


class Text(Good):
    def step(self, action: Any) -> Any:
        return ZEROS, "1.0", False, False, {}


class NoReward(Good):
    def step(self, action: Any) -> Any:
        return ZEROS, None, False, False, {}


class NoFlag(Good):
    def step(self, action: Any) -> Any:
        return ZEROS, 1.0, False, None, {}


class NanFlag(Good):
    def step(self, action: Any) -> Any:
        return ZEROS, 1.0, np.nan, False, {}


class NoObservation(Good):
    def step(self, action: Any) -> Any:
        return None, 1.0, False, False, {}


class NoLastObservation(Good):
    def step(self, action: Any) -> Any:
        return None, 1.0, False, True, {}


BROKEN: list[tuple[type[Good], str]] = [
    (NoArguments, r"NoArguments\.reset\(\) can't be called .* Gymnasium >= 1.0 .*'seed'.*shimmy"),
    (SeedAlone, r"SeedAlone\.reset\(\) can't be called .*'options'.*shimmy"),
    (
        ObservationAlone,
        r"ObservationAlone\.reset\(\) returned one array, of shape \(2,\); Gymnasium >= 1.0 wants \(obs.*shimmy",
    ),
    (NoReset, r"NoReset\.reset\(\) returned None; Gymnasium >= 1.0 wants"),
    (NoInfo, r"NoInfo\.reset\(\) returned 2 values, of which the second is None"),
    (NoSpace, r"`env` \(NoSpace\): `observation_space` must be a space .* it has none"),
    (FourValues, r"FourValues\.step\(\) returned 4 values; Gymnasium >= 1.0 wants \(observation, reward, term.*shimmy"),
    (NoInfoOfSteps, r"NoInfoOfSteps\.step\(\) returned an info that is None"),
    (Text, r"reward = '1.0' in environment 0; it must be one number"),
    (NoReward, r"reward = None in environment 0; it must be one number"),
    (NoFlag, r"truncated = None in environment 0; it must be True or False"),
    (NanFlag, r"terminated = nan in environment 0; it must be True or False"),
    (NoObservation, r"an observation of environment 0 is None"),
    (NoLastObservation, r"an observation of environment 0 is None; .* It was truncated"),
]


@pytest.mark.parametrize(("kind", "words"), BROKEN, ids=[kind.__name__ for kind, _ in BROKEN])
@pytest.mark.parametrize("is_made", [False, True], ids=["factory", "instance"])
def test_what_breaks_the_contract_is_named(kind: type[Good], words: str, is_made: bool) -> None:
    count = 1 if is_made else 2
    with pytest.raises((ContractError, TypeError), match=words):
        ppo2.learn(env=kind() if is_made else kind, num_envs=count, total_timesteps=8 * count, **SETTINGS)


@pytest.mark.parametrize("kind", [ObservationAlone, FourValues, Text, NoFlag, NoObservation])
def test_the_same_holds_in_a_worker(kind: type[Good], made: Any) -> None:
    env = made([Good, kind], workers=1)
    with pytest.raises(ContractError, match=dict(BROKEN)[kind].replace("environment 0", "environment 1")):
        ppo2.learn(env=env, total_timesteps=16, **SETTINGS)


@pytest.mark.parametrize(
    ("kind", "words"),
    [case for case in BROKEN if case[0] in (NoArguments, ObservationAlone, NoInfo, NoSpace)],
)
def test_the_same_holds_for_evaluation(kind: type[Good], words: str) -> None:
    model = ppo2.learn(env=Good, num_envs=1, total_timesteps=0, **SETTINGS)
    with pytest.raises((ContractError, TypeError), match=words):
        ppo2.evaluate(model, kind, episodes=1)


def test_a_wrapper_may_make_an_old_environment_new() -> None:
    class Adapted(gym.Wrapper[Any, Any, Any, Any]):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return self.env.reset()

    wrapped = gym.wrappers.RecordEpisodeStatistics(Adapted(NoArguments()))
    assert ppo2.learn(env=wrapped, total_timesteps=8, **SETTINGS) is not None


def test_numbers_may_be_written_in_many_ways() -> None:
    """Rewards and flags as arrays of one element, as NumPy's numbers, as 0 and 1: an episode of two steps, return 3."""

    class Many(Good):
        def step(self, action: Any) -> Any:
            self.t += 1
            over = self.t >= 2
            reward = np.array([1.0]) if self.t == 1 else np.int8(2)
            return [0, 0], reward, np.array([over]), float(0) if over else np.uint8(0), {}

    model = ppo2.learn(env=Many, num_envs=2, total_timesteps=16, **SETTINGS)
    result = ppo2.evaluate(model, Many, episodes=3)
    assert (result.returns.tolist(), result.lengths.tolist()) == ([3, 3, 3], [2, 2, 2])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_the_last_observation_of_a_terminated_episode_may_be_none(workers: int, network: str) -> None:
    class Last(Good):
        def step(self, action: Any) -> Any:
            self.t += 1
            assert self.t <= 3, "stepped after the end"
            return (None if self.t == 3 else ZEROS), 1.0, self.t == 3, False, {}

    env, told = HostVectorEnv([Last] * 2, workers=workers), []
    settings: dict[str, Any] = {name: value for name, value in SETTINGS.items() if name != "num_hidden"}
    ppo2.learn(
        env=env, network=network, total_timesteps=32, update_fn=lambda _, __, stats: told.append(stats), **settings
    )
    assert float(told[-1].eplenmean) == 3
    env.reset(seed=0)
    infos = [env.step([0, 0])[-1] for _ in range(3)][-1]
    assert infos["final_obs"].tolist() == [None, None]
    assert infos["_final_obs"].all()
    env.close()


def test_a_negative_seed_is_no_mark_of_none(made: Any) -> None:
    with pytest.raises(ValueError, match=r"`seed` \(=-1\) must be a whole number of at least 0"):
        made([Good] * 2).reset(seed=[3, -1])


def test_an_entry_of_info_may_be_called_failed(made: Any) -> None:
    """Every step counts, though the entry says 1."""

    class Failed(Good):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:4], {"failed": True})

    told: list[Any] = []
    env = made([Failed] * 2, info_keys=("failed",))
    ppo2.learn(env=env, total_timesteps=16, update_fn=lambda _, __, stats: told.append(stats), **SETTINGS)
    assert (told[-1].episodes, float(told[-1].eplenmean)) == (4, 3)


def test_old_environments_in_vectors_are_seen_before_training(made: Any) -> None:
    class Vector(Own):
        def reset(self, *, seed: Any = None) -> Any:  # type: ignore[override]
            return super().reset(seed=seed)

    with pytest.raises(ContractError, match=r"Vector\.reset\(\) can't be called .*'options'"):
        ppo2.learn(env=gym.vector.VectorWrapper(Vector()), total_timesteps=24, **SETTINGS)
    with pytest.raises(ContractError, match=r"NoArguments\.reset\(\) can't be called"):
        made([NoArguments])
    wrong = Own()
    wrong.single_action_space = None
    with pytest.raises(TypeError, match="`single_action_space` must be a space"):
        ppo2.learn(env=wrong, total_timesteps=24, **SETTINGS)


# --- vector environments of users


class Own(VectorEnv[Any, Any, Any]):
    """Three environments, whose step's outcome is changed by a function."""

    def __init__(self, change: Callable[..., Any] = lambda *outcome: outcome) -> None:
        self.num_envs, self.change = 3, change
        self.single_observation_space, self.single_action_space = Good.observation_space, Good.action_space
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.actions: list[Any] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.t = 0
        return np.zeros((3, 2), np.float32), {}

    def step(self, actions: Any) -> Any:
        self.actions.append(actions)
        self.t += 1
        over = np.full(3, self.t % 4 == 0)
        return self.change(np.zeros((3, 2), np.float32), np.arange(3.0), over, np.zeros(3, bool), {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda obs, *_: (obs, *_[:2], {}), r"Own\.step\(\) returned 4 values"),
        (lambda *outcome: (*outcome[:4], None), r"Own\.step\(\) returned an info that is None"),
        (lambda obs, r, *more: (obs, r[None], *more), r"rewards of shape \(1, 3\), float64; expected .* shape \(3,\)"),
        (lambda obs, r, *more: (obs, r[:2], *more), r"rewards of shape \(2,\)"),
        (lambda obs, r, *more: (obs, ["a"] * 3, *more), r"rewards of shape \(3,\), <U1; expected"),
        (lambda obs, r, *more: (obs, [1.0, None, 2.0], *more), r"reward = None in environment 1"),
        (lambda obs, r, *more: (obs, r, [0, 2, 1], *more[1:]), r"terminated = .*2.* in environment 1"),
        (lambda obs, r, *more: (obs, r, None, *more[1:]), r"terminated None; expected"),
        (lambda obs, r, t, c, i: (obs, r, t, [False, None, False], i), r"truncated \[False, None, False\]; expected"),
        (lambda obs, r, t, c, i: (obs, r, t, t[:, None] + c, i), r"truncated of shape \(3, 3\)"),
    ],
)
def test_what_a_vector_environment_gives_wrong_is_named(change: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        ppo2.learn(env=Own(change), total_timesteps=24, **SETTINGS)


def test_columns_mean_the_same() -> None:
    """Rewards 0, 1, 2 a step and episodes of four steps, as (N, 1): returns 0, 4, 8."""
    model = ppo2.learn(env=Good, num_envs=1, total_timesteps=0, **SETTINGS)
    columns = Own(lambda obs, r, t, c, i: (obs, r[:, None], t[:, None], c[:, None], i))
    assert sorted(ppo2.evaluate(model, columns, episodes=3).returns) == [0, 4, 8]


def test_a_truncated_episode_of_a_vector_needs_its_last_observation() -> None:
    class Cut(Good):
        def step(self, action: Any) -> Any:
            self.t += 1
            return (None if self.t == 3 else ZEROS), 1.0, self.t == 3, False, {}

    terminated, truncated = (lambda *_, cut=cut: _forgetful(*_, cut=cut) for cut in (False, True))
    ppo2.learn(env=Own(terminated), total_timesteps=24, **SETTINGS)
    with pytest.raises(ContractError, match=r"None as the last observation of environment 0, whose .* truncated"):
        ppo2.learn(env=Own(truncated), total_timesteps=24, **SETTINGS)
    same_step = SyncVectorEnv([Cut] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert ppo2.learn(env=same_step, total_timesteps=16, **SETTINGS) is not None


def _forgetful(obs: Any, rewards: Any, over: Any, _: Any, infos: Any, *, cut: bool) -> Any:
    if over.any():
        infos = {"final_obs": np.full(3, None), "_final_obs": over}
    flags = (np.zeros(3, bool), over) if cut else (over, np.zeros(3, bool))
    return obs, rewards, *flags, infos


def test_a_vector_environment_gets_an_array_of_its_own() -> None:
    env = Own()
    ppo2.learn(env=env, total_timesteps=24, **SETTINGS)
    first, second = env.actions[:2]
    assert first.dtype == np.int64
    assert first.flags.writeable
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (type("Duck", (), {"reset": 0, "step": 0})(), "derive its class from gymnasium.Env; .* shimmy"),
        (type("VecEnv", (), {"reset": 0, "step": 0, "num_envs": 2})(), "a vector environment of another library"),
    ],
)
@pytest.mark.parametrize("made", [False, True])
def test_what_looks_like_an_environment_of_another_library(given: Any, words: str, made: bool) -> None:
    with pytest.raises(TypeError, match=words):
        ppo2.learn(env=(lambda: given) if made else given, total_timesteps=16, **SETTINGS)


def test_words_for_single_values() -> None:
    assert contract.to_number(np.array([[2.5]]), "") == 2.5
    assert contract.to_flag(np.array(1), "") is True
    with pytest.raises(ContractError, match="reward"):
        contract.to_number([1.0, 2.0], "reward = [1.0, 2.0]")
    with pytest.raises(ContractError, match="terminated"):
        contract.to_flag("False", "terminated = 'False'")
