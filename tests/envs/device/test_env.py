"""Device environments: the contract, time limits, stepping many with resets, and what the check finds."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2 import spaces
from ppo2.distributions import ActionDistribution
from ppo2.envs import DeviceVector, TimeLimit, is_device_env, resolve
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.env import initial_carry, step_one, unroll
from ppo2.envs.host.vector import HostVectorEnv
from support.environments import Script


def key(seed: int = 0) -> Any:
    return jax.random.key(seed, impl="threefry2x32")


@dataclass(frozen=True)
class Count:
    """The obs is (which, t): the episode's own random number, and its steps so far. Reward t; over after `length`."""

    length: int = 3

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Discrete(2)

    def _obs(self, state: Any) -> Any:
        return jnp.stack([state["which"], state["t"].astype(jnp.float32)])

    def reset(self, key: Any) -> Any:
        state = {"which": jax.random.uniform(key), "t": jnp.int32(0)}
        return state, self._obs(state)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state = {**state, "t": state["t"] + 1}
        return state, self._obs(state), state["t"], state["t"] >= self.length, False, {}


def played(env: Any, steps: int = 8, nenvs: int = 3, seed: int = 0) -> Any:
    """So many steps, always with action 0, in one go: (what goes on, the steps)."""

    @jax.jit
    def play(first: Any, keys: Any) -> Any:
        def act(*_: Any) -> tuple[Any, None]:
            return jnp.zeros(nenvs, jnp.int32), None

        return unroll(env, act, first, jnp.zeros((steps, nenvs, 1)), keys)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key(seed), jnp.arange(nenvs))
    return jax.tree.map(np.asarray, play(initial_carry(env, nenvs), keys))


# --- what is one --------------------------------------------------------------------------------------------------


def good(**more: Any) -> SimpleNamespace:
    """Two zeros for ever; parts to be replaced by worse ones."""
    parts = {
        "observation_space": gym.spaces.Box(-1, 1, (2,)),
        "action_space": gym.spaces.Discrete(2),
        "reset": lambda key: (jnp.zeros(2), jnp.zeros(2)),
        "step": lambda state, action, key: (state, jnp.zeros(2), 0.0, False, False, {}),
    }
    return SimpleNamespace(**{**parts, **more})


def test_recognised_by_its_members() -> None:
    assert is_device_env(Count())
    assert is_device_env(TimeLimit(Count(), 2))
    assert is_device_env(good())
    without = vars(good())
    for name in without:
        assert not is_device_env(SimpleNamespace(**{other: without[other] for other in without if other != name}))
    # Gymnasium's `reset(*, seed, options)` and `step(action)` take other arguments
    assert not is_device_env(good(reset=lambda: None))
    assert not is_device_env(good(reset=lambda *, seed=None: None))
    assert not is_device_env(good(step=lambda action: None))
    assert not is_device_env(good(step=3))


@pytest.mark.parametrize(
    "make", [Script, lambda: gym.make_vec("CartPole-v1", num_envs=2), lambda: Count], ids=["env", "vector", "class"]
)
def test_gymnasiums_environments_and_classes_are_none(make: Any) -> None:
    assert not is_device_env(make())


def test_a_class_is_a_factory() -> None:
    for env, num_envs, count in ((Count, None, 8), (Count, 3, 3), (Count(), 5, 5), (lambda: Count(), None, 8)):
        made = resolve(env, num_envs)
        assert made.env == DeviceVector(Count(), count)
        assert made.env.single_observation_space is Count.observation_space
        assert made.env.single_action_space is Count.action_space
        made.env.close()
    assert isinstance(resolve(Script).env, HostVectorEnv)
    with pytest.raises(ValueError, match=r"`num_envs` \(=0\)"):
        resolve(Count(), 0)


# --- time limits --------------------------------------------------------------------------------------------------


def test_a_time_limit_truncates_and_shows_the_true_last_observation() -> None:
    """Episodes of 5 steps cut at 3: observations 1, 2, 3, then those of the next one."""
    _, step = played(TimeLimit(Count(5), 3))
    np.testing.assert_array_equal(step.truncated[:, 0], [False, False, True, False, False, True, False, False])
    assert not step.terminated.any()
    np.testing.assert_array_equal(step.next_obs[:, 0, 1], [1, 2, 3, 1, 2, 3, 1, 2])
    np.testing.assert_array_equal(step.lengths[:, 0], [0, 0, 3, 0, 0, 3, 0, 0])


@pytest.mark.parametrize("limit", [3, 4])
def test_an_episode_that_is_over_is_not_cut_short_as_well(limit: int) -> None:
    _, step = played(TimeLimit(Count(3), limit))
    np.testing.assert_array_equal(step.terminated[:, 0], [False, False, True, False, False, True, False, False])
    assert not step.truncated.any()


def test_an_environment_may_say_both_and_terminated_counts() -> None:
    both = good(step=lambda state, action, key: (state, jnp.zeros(2), 0.0, True, True, {}))
    found = step_one(both, jnp.zeros(2), jnp.int32(0), key())
    assert (bool(found.terminated), bool(found.truncated)) == (True, False)


def test_a_time_limit_is_a_value_and_at_least_one_step() -> None:
    assert TimeLimit(Count(), 3) == TimeLimit(Count(), 3) != TimeLimit(Count(), 4)
    assert hash(TimeLimit(Count(), 3)) == hash(TimeLimit(Count(), 3))
    with pytest.raises(ValueError, match=r"`max_episode_steps` \(=0\) must be at least 1"):
        TimeLimit(Count(), 0)


# --- stepping many ------------------------------------------------------------------------------------------------


def test_an_episode_begins_anew_as_soon_as_one_ends() -> None:
    """Episodes of 3 steps: seen are 0, 1, 2, then 0 of the next; what a step led to is 1, 2, 3."""
    left, step = played(Count(3))
    np.testing.assert_array_equal(step.obs[:, :, 1], np.array([0, 1, 2, 0, 1, 2, 0, 1])[:, None] * np.ones(3))
    np.testing.assert_array_equal(step.next_obs[:, :, 1], np.array([1, 2, 3, 1, 2, 3, 1, 2])[:, None] * np.ones(3))
    np.testing.assert_array_equal(step.obs[:, :, 0], step.next_obs[:, :, 0])  # the final one is the old episode's
    np.testing.assert_array_equal(left.obs[:, 1], [2, 2, 2])
    np.testing.assert_array_equal(left.state["t"], [2, 2, 2])


def test_every_episode_has_a_first_state_of_its_own() -> None:
    _, step = played(Count(3), steps=12)
    assert len(np.unique(step.obs[::3, :, 0])) == 4 * 3  # 4 episodes of 3 environments


def test_every_step_has_a_key_of_its_own() -> None:
    class Noise:
        """The obs is what the key of the reset or the step gives."""

        observation_space, action_space = gym.spaces.Box(0, 1, ()), gym.spaces.Discrete(2)

        def reset(self, key: Any) -> Any:
            return jnp.int32(0), jax.random.uniform(key)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state + 1, jax.random.uniform(key), 0.0, (state + 1) % 3 == 0, False, {}

    _, step = played(Noise())
    # 8 x 3 steps and the resets: one at the start, and after 3 and 6 steps
    assert len(np.unique(np.concatenate([step.obs, step.next_obs]))) == 8 * 3 + 3 * 3


def test_the_same_key_gives_the_same_bits() -> None:
    one, again, other = (jax.tree.leaves(played(Count(3), seed=seed)) for seed in (0, 0, 1))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_episodes_are_told_where_they_end() -> None:
    """Rewards 1, 2, 3 make 6; two steps into the third episode, 1 + 2 = 3 are on their way."""
    left, step = played(Count(3))
    np.testing.assert_array_equal(step.returns[:, 1], [0, 0, 6, 0, 0, 6, 0, 0])
    np.testing.assert_array_equal(step.lengths[:, 1], [0, 0, 3, 0, 0, 3, 0, 0])
    np.testing.assert_array_equal(left.returns, [3, 3, 3])
    np.testing.assert_array_equal(left.lengths, [2, 2, 2])


def test_environments_end_each_in_its_own_time() -> None:
    class Uneven(Count):
        """As long as its random number says: 1 to 4 steps."""

        def step(self, state: Any, action: Any, key: Any) -> Any:
            state, obs, reward, _, truncated, info = super().step(state, action, key)
            return state, obs, reward, state["t"] >= 1 + jnp.floor(4 * state["which"]), truncated, info

    _, step = played(Uneven(), steps=30, nenvs=4)
    lengths = 1 + np.floor(4 * step.obs[..., 0])
    np.testing.assert_array_equal(step.terminated, step.next_obs[..., 1] == lengths)
    np.testing.assert_array_equal(step.lengths, np.where(step.terminated, lengths, 0))
    np.testing.assert_array_equal(step.returns, np.where(step.terminated, lengths * (lengths + 1) / 2, 0))
    assert len(set(step.lengths.ravel().tolist())) == 5  # 0, and each length from 1 to 4
    np.testing.assert_array_equal(step.obs[1:, :, 1], np.where(step.terminated, 0, step.next_obs[..., 1])[:-1])


def test_numbers_as_python_writes_them() -> None:
    """A state that begins as a Python number, integers and flags in place of floats: all get types that stay."""

    class Plain:
        observation_space, action_space = gym.spaces.Box(-1, 1, (1,), np.float64), gym.spaces.Discrete(2)

        def reset(self, key: Any) -> Any:
            return 0, jnp.zeros(1, jnp.int32)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state + 1, jnp.ones(1, bool), 2, state % 2 == 1, False, {}

    check_device_env(Plain())
    _, step = played(Plain())
    assert (step.next_obs.dtype, step.rewards.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(step.returns[:, 0], [0, 4] * 4)


# --- actions ------------------------------------------------------------------------------------------------------

ACTION_SPACES = [
    gym.spaces.Discrete(3),
    gym.spaces.Discrete(3, start=-4),
    gym.spaces.MultiDiscrete([3, 2]),
    gym.spaces.MultiDiscrete([[3, 2], [2, 2]], start=[[1, 1], [0, 5]]),
    gym.spaces.MultiBinary(4),
    gym.spaces.MultiBinary([2, 2]),
    gym.spaces.Box(-0.5, 0.25, ()),
    gym.spaces.Box(np.float32([-1, -0.25]), np.float32([0.5, np.inf])),
    gym.spaces.Box(-1.0, 1.0, (2, 1, 2), np.float64),
    gym.spaces.Box(-np.inf, np.inf, (3,)),
]


@pytest.mark.parametrize("space", ACTION_SPACES, ids=str)
def test_actions_are_those_of_the_host(space: Any) -> None:
    distribution = ActionDistribution.of(space)
    noise = distribution.noise(key(), (64,))
    params = 2 * jax.random.normal(key(1), (64, distribution.num_params))
    log_std = jnp.zeros(distribution.num_params) if distribution.has_log_std else None
    actions = distribution.build(params, log_std).sample(noise)
    seen = []

    def step(state: Any, action: Any, key: Any) -> Any:
        seen.append((action.shape, action.dtype))
        return state, action.astype(jnp.float32), 0.0, False, False, {}

    env = good(observation_space=gym.spaces.Box(-np.inf, np.inf, space.shape), action_space=space, step=step)
    found = jax.vmap(lambda action: step_one(env, jnp.zeros(2), action, key()).obs)(actions)
    expected = spaces.to_environment(space, np.asarray(actions))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert seen == [(space.shape, spaces.device_dtype(space))]  # one environment's, of 32 bits at most
    assert all(space.contains(np.asarray(one, space.dtype)) for one in np.asarray(found))
    if isinstance(space, gym.spaces.Box) and np.isfinite(space.low).all():
        assert np.any(np.asarray(actions).reshape(expected.shape) != expected)  # something was clipped


# --- the check ----------------------------------------------------------------------------------------------------


def stepping(**changed: Any) -> SimpleNamespace:
    """`good`, with some of what `step` returns replaced."""

    def step(state: Any, action: Any, key: Any) -> Any:
        given = {
            "state": state,
            "obs": jnp.zeros(2),
            "reward": 0.0,
            "terminated": False,
            "truncated": False,
            "info": {},
        }
        return tuple({**given, **changed}.values())

    return good(step=step)


def dict_state(key: Any) -> Any:
    return {"x": jnp.zeros(2), "t": jnp.int32(0)}, jnp.zeros(2)


class Remembers:
    """Keeps what it was given on itself."""

    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)

    def reset(self, key: Any) -> Any:
        self.position = jax.random.uniform(key, (2,))
        return self.position, self.position

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state, self.position, 0.0, False, False, {}


class RemembersNested(Remembers):
    def __init__(self) -> None:
        self.position = np.zeros(2, np.float32)
        self.memory: dict[str, Any] = {}

    def reset(self, key: Any) -> Any:
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        self.memory["action"] = action
        return super().step(state, action, key)


def leaks_in_a_global() -> Any:
    kept: list[Any] = []

    def reset(key: Any) -> Any:
        kept.append(jax.random.uniform(key, (2,)))
        return jnp.zeros(2), jnp.zeros(2)

    return good(reset=reset, step=lambda state, action, key: (state + kept[-1], jnp.zeros(2), 0.0, False, False, {}))


def leaks_into_a_branch() -> Any:
    """As above, but what was kept is used by an inner program only."""
    kept: list[Any] = []

    def reset(key: Any) -> Any:
        kept.append(jax.random.uniform(key, (2,)))
        return jnp.zeros(2), jnp.zeros(2)

    def step(state: Any, action: Any, key: Any) -> Any:
        state = jax.lax.cond(action > 0, lambda: state, jax.jit(lambda: state + kept[-1]))
        return state, jnp.zeros(2), 0.0, False, False, {}

    return good(reset=reset, step=step)


def tells_more_each_time() -> Any:
    told: list[str] = []

    def step(state: Any, action: Any, key: Any) -> Any:
        told.append(f"a{len(told)}")
        return state, jnp.zeros(2), 0.0, False, False, dict.fromkeys(told, 0.0)

    return good(step=step)


def branches(state: Any, action: Any, key: Any) -> Any:
    return (state if action else -state), jnp.zeros(2), 0.0, False, False, {}


def loops(state: Any, action: Any, key: Any) -> Any:
    return state, jnp.zeros(2), float(sum(range(action))), False, False, {}


def in_numpy(state: Any, action: Any, key: Any) -> Any:
    return state, np.tanh(np.asarray(state)), 0.0, False, False, {}


BROKEN = {
    "state: structure": (
        lambda: stepping(state=(jnp.zeros(2), 0)),
        r"the state that `env`\.step returns has another structure than what `reset` returned: expected .*found .*\*\)",
    ),
    "state: dtype": (
        lambda: stepping(state=jnp.zeros(2, jnp.int32)),
        r"the state that `env`\.step returns differs from .* at it: expected float32\[2\], found int32\[2\]",
    ),
    "state: shape": (
        lambda: stepping(state=jnp.zeros(3)),
        r"the state that `env`\.step .* expected float32\[2\], found float32\[3\]",
    ),
    "state: one leaf": (
        lambda: good(
            reset=dict_state, step=stepping(state={"x": jnp.zeros(2), "t": jnp.float32(0)}).step
        ),
        r"the state .* at \['t'\]: expected int32\[\], found float32\[\]",
    ),
    "obs: shape at reset": (
        lambda: good(reset=lambda key: (jnp.zeros(2), jnp.zeros(3))),
        r"the obs that `env`\.reset returns: expected float32\[2\] \(Box\(.*\)\), found float32\[3\]",
    ),
    "obs: shape": (
        lambda: stepping(obs=jnp.zeros((1, 2))),
        r"the obs that `env`\.step returns: expected float32\[2\] \(Box\(.*\)\), found float32\[1,2\]",
    ),
    "obs: dtype": (
        lambda: good(observation_space=gym.spaces.Discrete(3), reset=lambda key: (jnp.zeros(2), jnp.float32(1))),
        r"the obs that `env`\.reset returns: expected int32\[\] \(Discrete\(3\)\), found float32\[\]",
    ),
    "obs: complex": (
        lambda: stepping(obs=jnp.zeros(2, jnp.complex64)),
        r"the obs that `env`\.step returns: expected float32\[2\].*found complex64\[2\]",
    ),
    "obs: several arrays": (
        lambda: stepping(obs={"image": jnp.zeros(2)}),
        r"the obs that `env`\.step returns: expected one array, float32\[2\].*found .*'image'",
    ),
    "reward: a vector": (
        lambda: stepping(reward=jnp.zeros(1)),
        r"the reward that `env`\.step returns: expected a scalar, a number\[\], found float32\[1\]",
    ),
    "reward: none": (lambda: stepping(reward=None), r"the reward that `env`\.step returns: .*found .*None"),
    "terminated: a number": (
        lambda: stepping(terminated=jnp.float32(0)),
        r"the terminated that `env`\.step returns: expected a scalar, bool\[\], found float32\[\]",
    ),
    "terminated: a vector": (lambda: stepping(terminated=jnp.zeros(2, bool)), r"the terminated .* found bool\[2\]"),
    "truncated: a number": (
        lambda: stepping(truncated=0),
        r"the truncated that `env`\.step returns: expected a scalar, bool\[\], found int32\[\]",
    ),
    "info: no dict": (lambda: stepping(info=()), r"`env`\.step must return a dict as `info`; it gave tuple"),
    "info: another structure each time": (
        tells_more_each_time,
        r"the info that `env`\.step returns has another structure than that of the step before: expected .*'a0'.*found",
    ),
    "info: text": (lambda: stepping(info={"name": "north"}), r"`env`\.step returns what is no array: .*str"),
    "reset: three values": (
        lambda: good(reset=lambda key: (jnp.zeros(2), jnp.zeros(2), {})),
        r"`env`\.reset must return \(state, obs\); it gave 3 values",
    ),
    "reset: one value": (
        lambda: good(reset=lambda key: jnp.zeros(2)),
        r"`env`\.reset must return \(state, obs\); it gave one value",
    ),
    "step: five values": (
        lambda: good(step=lambda state, action, key: (state, jnp.zeros(2), 0.0, False, {})),
        r"`env`\.step must return \(state, obs, reward, terminated, truncated, info\); it gave 5 values",
    ),
    "impure: on itself": (Remembers, r"`env`\.reset keeps an array on .*\(`self\.position`\).*in `state`"),
    "impure: inside something": (RemembersNested, r"`env`\.step keeps an array on .*`self\.memory`.*in `state`"),
    "impure: in a global": (leaks_in_a_global, r"`env`\.step uses an array that an earlier call kept.*in `state`"),
    "impure: in a global, for a branch": (leaks_into_a_branch, r"`env`\.step uses an array that an earlier call kept"),
    "if": (lambda: good(step=branches), r"`env`\.step needs the value of an array while it is compiled.*jnp\.where"),
    "loop": (lambda: good(step=loops), r"`env`\.step needs the value of an array while it is compiled.*jax\.lax\.scan"),
    "numpy": (lambda: good(step=in_numpy), r"`env`\.step needs the value of an array .*NumPy.*use jax\.numpy"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_contract_is_named(what: str) -> None:
    make, message = BROKEN[what]
    with pytest.raises(ValueError, match=message):
        check_device_env(make())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"observation_space": gym.spaces.Text(5)}, r"`env` has the observation space Text.*known are Box, Discrete"),
        ({"action_space": gym.spaces.Text(5)}, r"`env` has the action space Text.*known are .*Discrete"),
        ({"action_space": gym.spaces.Box(0, 5, (2,), np.int32)}, r"`env` has the action space Box"),
    ],
)
def test_spaces_that_are_not_supported(part: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_device_env(good(**part))


def test_whatever_keeps_the_contract_passes() -> None:
    for env in (good(), Count(), TimeLimit(Count(), 2), stepping(info={"speed": jnp.zeros(3)})):
        check_device_env(env)
    check_device_env(good(reset=lambda key: ((key, 0), np.zeros(2)), step=lambda s, a, k: (
        (k, s[1] + 1), s[1] * np.ones(2, np.float32), np.float32(1), jnp.any(a > 0), np.bool_(False), {}
    )))  # fmt: skip


def test_an_environments_own_error_is_left_as_it_is() -> None:
    def step(state: Any, action: Any, key: Any) -> Any:
        raise RuntimeError("no such room")

    with pytest.raises(RuntimeError, match="no such room"):
        check_device_env(good(step=step))


def test_learn_checks_before_anything_else() -> None:
    """Each argument by its name; and nothing was written or compiled."""
    bad = stepping(reward=jnp.zeros(1))
    with pytest.raises(ValueError, match=r"the reward that `env`\.step returns"):
        ppo2.learn(env=bad)
    with pytest.raises(ValueError, match=r"the reward that `eval_env`\.step returns"):
        ppo2.learn(env=good(), eval_env=bad, nsteps=16, total_timesteps=128)
    with pytest.raises(TypeError, match=r"`env` \(=.*\) must be .* a device environment \(observation_space"):
        ppo2.learn(env=SimpleNamespace(observation_space=None))
