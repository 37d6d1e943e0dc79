"""Masks of legal actions: on the host, on the device, with memory, in evaluation and files."""

from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from gymnasium.vector import AutoresetMode

import ppo2
from ppo2 import envs, spaces
from ppo2.agent.model import Model
from ppo2.envs.families.masks import MaskedEnv, MaskedVectorEnv
from support.environments import LEGAL, Legal, Spaced, vector

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


class Told(Legal):
    """The same, but the mask is in info."""

    observation_space = LEGAL["observation"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        obs, _ = super().reset(seed=seed)
        return obs["observation"], {"action_mask": obs["action_mask"]}

    def step(self, action: Any) -> Any:
        obs, *rest, _ = super().step(action)
        return obs["observation"], *rest, {"action_mask": obs["action_mask"]}


class DeviceLegal:
    """The same on the device; an illegal action costs 100."""

    observation_space = LEGAL
    action_space = Discrete(4)

    def __init__(self, stuck_at: int = -1) -> None:
        self.stuck_at = stuck_at

    def _obs(self, key: Any, t: Any) -> Any:
        several, one = jax.random.split(key)
        mask = jax.random.bernoulli(several, 0.5, (4,)) | (jnp.arange(4) == jax.random.randint(one, (), 0, 4))
        mask &= t != self.stuck_at
        return {"observation": jnp.zeros(1), "action_mask": mask.astype(jnp.int8)}

    def reset(self, key: Any) -> Any:
        obs = self._obs(key, 0)
        return (obs["action_mask"], jnp.int32(0)), obs

    def step(self, state: Any, action: Any, key: Any) -> Any:
        mask, t = state
        best = 3 - jnp.argmax(mask[::-1])
        reward = jnp.where(mask[action] > 0, jnp.where(action == best, 1.0, 0.0), -100.0)
        obs = self._obs(key, t + 1)
        return (obs["action_mask"], t + 1), obs, reward, False, t == 5, {}


MASKED = {"in the observation": Legal, "in info": Told, "on the device": DeviceLegal()}


@pytest.mark.parametrize(
    ("where", "network"),
    [
        pytest.param("in the observation", "mlp", id="in the observation"),
        pytest.param("in info", "lstm", id="in info", marks=pytest.mark.slow),
        pytest.param("on the device", "lstm", id="on the device", marks=pytest.mark.slow),
    ],
)
def test_only_legal_actions_are_taken_and_the_best_learned(where: str, network: str) -> None:
    env: Any = MASKED[where]
    settings = {name: value for name, value in SMALL.items() if name != "num_hidden"}
    settings |= {"num_envs": 8, "nsteps": 12, "lr": 1e-2, "total_timesteps": 10_000}
    model = ppo2.learn(**settings, env=env, network=network)
    result = ppo2.evaluate(model, env, episodes=20)
    assert result.returns.min() >= 0
    assert result.mean > 5.5
    assert ppo2.evaluate(model, env, episodes=20, deterministic=False).returns.min() >= 0


def test_ratio_and_entropy_know_the_mask() -> None:
    told: list[Any] = []
    learn(env=Legal, noptepochs=1, nminibatches=1, update_fn=lambda _, model, stats: told.append(stats))
    assert float(told[0].approxkl) < 1e-10
    assert float(told[0].policy_entropy) < 0.9 * np.log(4)  # fewer than all are legal


@pytest.mark.slow
def test_a_state_without_a_legal_action_is_told() -> None:
    no_legal_action = type("Stuck", (Legal,), {"stuck_at": 3})
    message = r"update 1: a state has no legal action .*environment 0 gave it at step 3 of the rollout"
    on_host = r"`env` has a state with no legal action .*: number 0 of 3, at step 3"
    for on_nonfinite in ("raise", "skip"):
        with pytest.raises(ValueError, match=on_host + " of rollout 0"):
            learn(env=no_legal_action, on_nonfinite=on_nonfinite)
        with pytest.raises(ValueError, match=message):
            learn(env=DeviceLegal(3), on_nonfinite=on_nonfinite)
    model = learn(env=Legal)
    for env in (no_legal_action, DeviceLegal(3)):
        with pytest.raises(ValueError, match=on_host):
            ppo2.evaluate(model, env, episodes=3, num_envs=3)
    with pytest.raises(ValueError, match=r"`obs` has a state with no legal action .* number 0 of 1\."):
        model.predict({"observation": np.zeros(1, np.float32), "action_mask": np.zeros(4, np.int8)})


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_masks_from_the_info_of_a_vector_environment(mode: AutoresetMode) -> None:
    env = vector(*[Told] * 3, mode=mode)
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


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [
        pytest.param(MultiDiscrete([2, 3]), Box(0, 1, (5,), np.int8), marks=pytest.mark.slow),
        (Dict({"move": Box(-1, 1, (2,)), "say": Discrete(3)}), Dict({"say": MultiBinary(3)})),
    ],
    ids=["MultiDiscrete", "Dict"],
)
def test_masks_of_other_spaces(action_space: Any, mask: Any) -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": mask})
    assert int(learn(env=lambda: Whole(space, action_space)).state.counters.updates) == 2


@pytest.mark.parametrize(
    ("action_space", "mask"),
    [(Discrete(3), MultiBinary(2)), (Box(-1, 1, (2,)), MultiBinary(2)), (Tuple([Discrete(2)] * 2), MultiBinary(4))],
    ids=["size", "Box", "Tuple"],
)
def test_masks_that_do_not_fit(action_space: Any, mask: Any) -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": mask})
    with pytest.raises(ValueError, match="an action_mask that doesn't fit its action space"):
        learn(env=lambda: Spaced(space, action_space))


class Whole(gym.Env[Any, Any]):
    """Any masked space; the first option of each choice is always legal, and the only one."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def _obs(self) -> Any:
        sample = self.observation_space.sample()
        if isinstance(self.action_space, MultiDiscrete):
            mask: Any = np.array([1, 0, 1, 0, 0], np.int8)
        else:
            mask = {"say": np.array([1, 0, 0], np.int8)}
        return {**sample, "action_mask": mask}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        if isinstance(self.action_space, MultiDiscrete):
            assert list(action) == [0, 0]
        else:
            assert action["say"] == 0
        return self._obs(), 1.0, self.t == 4, False, {}


class Obeyed(gym.Env[Any, Any]):
    """Gives in info the mask that `mask(t)` says, and asserts that actions obey it. Truncated after 5 steps."""

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
def test_masks_from_info_that_are_none(mask: Any, message: str) -> None:
    for env, num_envs in (
        (lambda: Obeyed(mask), 2),
        (vector(lambda: Obeyed(mask), mode=AutoresetMode.NEXT_STEP), None),
    ):
        with pytest.raises(ValueError, match=message):
            learn(env=env, num_envs=num_envs, nminibatches=1)


def test_a_mask_with_a_neighbour_is_refused() -> None:
    space = Dict({"observation": Box(-1, 1, (1,)), "action_mask": Box(0, 1, (2,)), "more": Discrete(2)})
    with pytest.raises(TypeError, match=r"beside action_mask.*must be observation and nothing else"):
        learn(env=lambda: Spaced(space, Discrete(2)))


def test_a_mask_in_the_info_of_a_device_environment_is_refused() -> None:
    class Telling(DeviceLegal):
        observation_space = LEGAL["observation"]

        def reset(self, key: Any) -> Any:
            state, obs = super().reset(key)
            return state, obs["observation"]

        def step(self, state: Any, action: Any, key: Any) -> Any:
            state, obs, *rest, _ = super().step(state, action, key)
            return state, obs["observation"], *rest, {"action_mask": obs["action_mask"]}

    with pytest.raises(ValueError, match="on the device let observations be a Dict of `observation` and `action_mask`"):
        learn(env=Telling())
