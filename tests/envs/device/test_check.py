"""The check of device environments: each breach of the contract is named."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppo2
from ppo2.envs import TimeLimit
from ppo2.envs.device.check import check_device_env
from support.device_envs import Count, good


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
    """An environment that keeps its position on itself."""

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
    """Like `leaks_in_a_global`, but an inner program alone uses the array that was kept."""
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
def test_breaches_of_the_contract_are_named(what: str) -> None:
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


def test_environments_that_keep_the_contract_pass() -> None:
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
    """The error names the argument, before anything is written or compiled."""
    bad = stepping(reward=jnp.zeros(1))
    with pytest.raises(ValueError, match=r"the reward that `env`\.step returns"):
        ppo2.learn(env=bad)
    with pytest.raises(ValueError, match=r"the reward that `eval_env`\.step returns"):
        ppo2.learn(env=good(), eval_env=bad, nsteps=16, total_timesteps=128)
    with pytest.raises(TypeError, match=r"`env` \(=.*\) must be .* a device environment \(observation_space"):
        ppo2.learn(env=SimpleNamespace(observation_space=None))


@pytest.mark.parametrize("action_space", [gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (2,))])
def test_masks_that_would_be_ignored_are_refused(action_space: Any) -> None:
    class Info:
        observation_space = gym.spaces.Box(-1, 1, (1,))

        def __init__(self) -> None:
            self.action_space = action_space

        def reset(self, key: Any) -> Any:
            return jnp.zeros(()), jnp.zeros(1)

        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state, jnp.zeros(1), 0.0, False, False, {"action_mask": jnp.ones(2)}

    class Plural(Info):
        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state, jnp.zeros(1), 0.0, False, False, {"action_masks": jnp.ones(2)}

    class Method(Info):
        def step(self, state: Any, action: Any, key: Any) -> Any:
            return state, jnp.zeros(1), 0.0, False, False, {}

        def action_masks(self, state: Any) -> Any:
            return jnp.ones(2)

    with pytest.raises(ValueError, match=r"`env`.step gives info\['action_mask'\], .*Dict of `observation` and"):
        check_device_env(Info())
    with pytest.raises(ValueError, match=r"`env`.step gives info\['action_masks'\], which nobody reads: let observ"):
        check_device_env(Plural())
    with pytest.raises(ValueError, match=r"`env` has a method `action_masks`, which is not asked on the device"):
        check_device_env(Method())
