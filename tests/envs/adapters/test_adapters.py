"""Environments of JAX libraries as device environments: each against the library itself."""

import importlib.util
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2 import spaces
from ppo2.envs import adapters
from ppo2.envs.adapters import common

# The cheapest of each library.
SAMPLES = {
    "gymnax": "CartPole-v1",
    "brax": "inverted_pendulum",
    "playground": "CartpoleBalance",
    "xminigrid": "MiniGrid-Empty-5x5",
    "navix": "Navix-Empty-5x5-v0",
    "pgx": "minatar-breakout",
    "craftax": "Craftax-Classic-Symbolic-v1",
}


def needs(prefix: str) -> Any:
    adapter = adapters.ADAPTERS[prefix]
    missing = importlib.util.find_spec(adapter.package) is None
    return pytest.mark.skipif(missing, reason=f"{adapter.package} isn't installed: {adapter.remedy}")


def each(*prefixes: str) -> Any:
    return pytest.mark.parametrize("prefix", [pytest.param(prefix, marks=needs(prefix)) for prefix in prefixes])


def key(seed: int = 0) -> Any:
    return jax.random.key(seed, impl="threefry2x32")


def sampled(space: Any, key: Any) -> Any:
    if hasattr(space, "n"):
        return jax.random.randint(key, (), 0, int(space.n))
    return jax.random.uniform(key, space.shape, minval=space.low, maxval=space.high)


def types(tree: Any) -> Any:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype, leaf.weak_type) for path, leaf in leaves]


def check_types(env: adapters.AdaptedEnv, state: Any, after: Any, obs: Any, *result: Any) -> None:
    """Checks the types of one step while it is traced: one environment's shapes, and nothing promoted."""
    assert types(after) == types(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, spaces.device_dtype(env.observation_space))
    assert [(x.shape, x.dtype) for x in result[:3]] == [((), np.float32), ((), np.bool_), ((), np.bool_)]


def episode(env: adapters.AdaptedEnv, action: Any, steps: int, start: Any = None) -> Any:
    """(obs, reward, terminated, truncated) of so many steps with one action, whatever ends on the way."""

    def step(state: Any, key: Any) -> Any:
        state, *result = env.step(state, action, key)
        return state, tuple(result[:4])

    def run() -> Any:
        state = env.reset(key(1))[0] if start is None else start
        return jax.lax.scan(step, state, jax.random.split(key(2), steps))[1]

    return jax.tree.map(np.asarray, jax.jit(run)())


# --- every adapter ------------------------------------------------------------------------------------------------


@each("gymnax", "xminigrid", "navix", "pgx", "craftax")  # the others compile for long: see their own test
def test_keeps_the_contract(prefix: str) -> None:
    env = adapters.make(f"{prefix}:{SAMPLES[prefix]}")
    spaces.check_observation_space(env.observation_space)
    dtype = spaces.device_dtype(env.observation_space)

    @jax.jit
    @jax.vmap
    def two_steps(key: Any) -> Any:
        key, reset_key = jax.random.split(key)
        first, obs = env.reset(reset_key)

        def step(state: Any, key: Any) -> Any:
            after, *result = env.step(state, sampled(env.action_space, key), key)
            check_types(env, state, after, *result)
            return after, tuple(result)

        return obs, jax.lax.scan(step, first, jax.random.split(key, 2))[1]

    first, (obs, reward, terminated, truncated, info) = two_steps(jax.random.split(key(), 3))
    shape = env.observation_space.shape
    assert (first.shape, obs.shape, first.dtype, obs.dtype) == ((3, *shape), (3, 2, *shape), dtype, dtype)
    for one in (*first, *obs.reshape(6, *shape)):
        assert env.observation_space.contains(np.asarray(one, env.observation_space.dtype))
    assert np.all(np.isfinite(reward))
    assert terminated.shape == truncated.shape == (3, 2)
    assert all(isinstance(leaf, jax.Array) for leaf in info.values())


@each(*SAMPLES)
def test_is_a_value(prefix: str) -> None:
    adapter = adapters.ADAPTERS[prefix]
    known = adapter.ids()
    assert SAMPLES[prefix] in known
    assert known == sorted(known)
    env, same = (adapters.make(f"{prefix}:{SAMPLES[prefix]}") for _ in range(2))
    assert env == same
    assert hash(env) == hash(same)
    assert {env: 1}[same] == 1
    assert repr(env) == f"{prefix}:{SAMPLES[prefix]}"
    assert env != SAMPLES[prefix]


@each(*SAMPLES)
def test_an_unknown_name_or_argument_is_an_error(prefix: str) -> None:
    name = SAMPLES[prefix]
    with pytest.raises(ValueError, match=rf"`env` \(='{prefix}:{name}x'\): .* The closest known are .*{name}"):
        adapters.make(f"{prefix}:{name}x")
    with pytest.raises(ValueError, match=rf"`nonsense` \(=3\) is no argument of `env` \(='{prefix}:{name}'\)"):
        adapters.make(f"{prefix}:{name}", nonsense=3)


# --- ids ----------------------------------------------------------------------------------------------------------


def test_adapter_of_knows_its_own_prefixes() -> None:
    found = adapters.adapter_of("gymnax:CartPole-v1")
    assert found is not None
    assert (found[0].prefix, found[1]) == ("gymnax", "CartPole-v1")
    assert adapters.adapter_of("CartPole-v1") is None
    assert adapters.adapter_of("gymnax") is None
    assert adapters.adapter_of("minigrid:MiniGrid-Empty-5x5-v0") is None


def test_an_unknown_prefix_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`env` \(='gymnx:CartPole-v1'\) names no library .*known are gymnax, brax"):
        adapters.make("gymnx:CartPole-v1")


@pytest.mark.parametrize(
    ("env_id", "command"),
    [("gymnax:CartPole-v1", r"pip install 'ppo2\[jax-envs\]'"), ("navix:Navix-Empty-5x5-v0", "pip install navix")],
)
def test_a_missing_library_is_an_error(env_id: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"`env` \(='{env_id}'\) needs a package that isn't installed: {command}\.$"):
        adapters.make(env_id)


def test_a_library_that_breaks_at_import_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> Any:
        raise ModuleNotFoundError("No module named 'six'")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(common, "imported", broken)
    with pytest.raises(ValueError, match=r"gymnax can't be imported \(No module named 'six'\): pip install"):
        adapters.make("gymnax:CartPole-v1")


# --- what they share ----------------------------------------------------------------------------------------------


class Plain(common.AdaptedEnv):
    """A counter that does what libraries do: Python numbers, flags that overlap, dicts written into."""

    prefix = "plain"

    def __init__(self, name: str = "one", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    @classmethod
    def ids(cls) -> list[str]:
        return ["one", "two"]

    def _build(self, name: str, after: Any = 1, **kwargs: Any) -> None:
        self.observation_space, self.action_space = common.box((1,)), gym.spaces.Discrete(2)
        self.after = after

    def _reset(self, key: Any) -> Any:
        return {"t": 0, "seen": {"action": jnp.int32(0)}}, [0]

    def _step(self, state: Any, action: Any, key: Any) -> Any:
        state["seen"]["action"] = action
        return {**state, "t": state["t"] + self.after}, state["t"], 1, 1, True, {"t": state["t"]}


def test_results_get_the_types_of_the_contract() -> None:
    env = Plain()
    state, obs = env.reset(key())
    after, obs, reward, terminated, truncated, info = env.step(state, jnp.int32(1), key())
    assert types(after) == types(state)
    assert not after["t"].weak_type
    assert (obs.shape, obs.dtype, reward.dtype, info["t"].shape) == ((1,), np.float32, np.float32, ())
    assert terminated
    assert not truncated
    assert state["seen"]["action"] == 0
    assert after["seen"]["action"] == 1


def test_a_state_that_changes_its_type_is_an_error() -> None:
    env = Plain(after=0.5)
    with pytest.raises(
        TypeError, match=r"`env` \(='plain:one\(after=0.5\)'\) turns a part of its state from int32\(\) into float32"
    ):
        env.step(env.reset(key())[0], 0, key())


def test_values_differ_by_name_arguments_and_their_types() -> None:
    values = [Plain(), Plain("two"), Plain(x=1), Plain(x=True), Plain(x=2), Plain(y=1)]
    assert len(set(values)) == len(values)
    assert Plain(x=1, y=2) == Plain(y=2, x=1)
    assert Plain(x=[1, 2]) == Plain(x=(1, 2))
    assert repr(Plain(y=2, x="a")) == "plain:one(x='a', y=2)"
    with pytest.raises(ValueError, match=r"`x` \(=\{'a': 1\}\) can't be hashed"):
        Plain(x={"a": 1})


# --- gymnax -------------------------------------------------------------------------------------------------------


@needs("gymnax")
def test_gymnax_truncates_at_the_limit_and_shows_the_true_last_observation() -> None:
    from gymnax import make

    env = adapters.make("gymnax:MountainCar-v0", max_steps_in_episode=7)
    obs, reward, terminated, truncated = episode(env, jnp.int32(1), 7)
    assert truncated.tolist() == [False] * 6 + [True]
    assert not terminated.any()
    assert reward.tolist() == [-1.0] * 7
    # The library's own, one step after another, never reset:
    theirs, params = make("MountainCar-v0")
    _, state = theirs.reset_env(key(1), params)
    for t, step_key in enumerate(jax.random.split(key(2), 7)):
        expected, state, *_ = theirs.step_env(step_key, state, 1, params)
        np.testing.assert_allclose(obs[t], expected, rtol=1e-6)
    assert not np.allclose(obs[-1], env.reset(key(1))[1])


@needs("gymnax")
def test_gymnax_terminates_also_at_the_limit() -> None:
    """CartPole pushed to the right falls after n steps; with limits of n + 1, n and n - 1 steps."""
    _, _, terminated, _ = episode(adapters.make("gymnax:CartPole-v1"), jnp.int32(1), 20)
    falls = int(terminated.argmax()) + 1
    assert 5 < falls < 15
    for limit, ends in ((falls + 1, (True, False)), (falls, (True, False)), (falls - 1, (False, True))):
        env = adapters.make("gymnax:CartPole-v1", max_steps_in_episode=limit)
        _, _, terminated, truncated = episode(env, jnp.int32(1), min(limit, falls))
        assert (bool(terminated[-1]), bool(truncated[-1])) == ends
        assert not (terminated[:-1] | truncated[:-1]).any()


@needs("gymnax")
def test_gymnax_keeps_apart_what_minatar_remembers_together() -> None:
    """Breakout sets a flag in its state when the limit is reached, from which it then ends."""
    env = adapters.make("gymnax:Breakout-MinAtar", max_steps_in_episode=3)
    _, _, terminated, truncated = episode(env, jnp.int32(0), 3)
    assert truncated.tolist() == [False, False, True]
    assert not terminated.any()


@needs("gymnax")
def test_gymnax_limits_are_seen_as_they_are() -> None:
    """An observation that holds the share of the time that is left does not change with how the end is told apart."""
    from gymnax import make

    env = adapters.make("gymnax:DiscountingChain-bsuite", max_steps_in_episode=10)
    obs = episode(env, jnp.int32(0), 4)[0]
    theirs, params = make("DiscountingChain-bsuite")
    params = params.replace(max_steps_in_episode=10)
    _, state = theirs.reset_env(key(1), params)
    for t in range(4):
        expected, state, *_ = theirs.step_env(key(), state, 0, params)
        np.testing.assert_allclose(obs[t], expected)


@needs("gymnax")
def test_gymnax_takes_arguments_of_the_constructor_and_of_the_parameters() -> None:
    env = adapters.make("gymnax:DeepSea-bsuite", size=5, max_steps_in_episode=3)
    assert env.observation_space.shape == (5, 5)
    assert episode(env, jnp.int32(0), 3)[3].tolist() == [False, False, True]


@needs("gymnax")
def test_gymnax_observations_are_of_the_space() -> None:
    """Catch declares integers and gives floats; PointRobot bounds that are the largest floats."""
    for name in ("Catch-bsuite", "FourRooms-misc"):
        env = adapters.make(f"gymnax:{name}")
        obs = episode(env, jnp.int32(0), 2)[0]
        assert obs.dtype == env.observation_space.dtype == np.float32
        assert env.observation_space.contains(obs[0])


# --- brax and playground ------------------------------------------------------------------------------------------


@pytest.mark.slow
@each("brax", "playground")
def test_brax_and_playground_equal_the_library_and_end(prefix: str) -> None:
    """At rest, an episode is cut short at its length; pushed with all force, Brax's pendulum leans too far before."""
    name = SAMPLES[prefix]
    env = adapters.make(f"{prefix}:{name}", episode_length=3)
    assert repr(env) == f"{prefix}:{name}(episode_length=3)"
    with common.quiet():
        if prefix == "brax":
            theirs = common.imported("brax.envs").get_environment(name)
        else:
            theirs = common.imported("mujoco_playground").registry.load(name, config_overrides={"impl": "jax"})

    @jax.jit
    @jax.vmap
    def both(action: Any) -> Any:
        def step(states: Any, _: None) -> Any:
            after, obs, *result = env.step(states[0], action, key())
            check_types(env, states[0], after, obs, *result)
            expected = theirs.step(states[1], action)
            expected = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), expected, states[1])
            return (after, expected), (obs, expected.obs, *result[1:3])

        states = env.reset(key(1))[0], theirs.reset(jax.random.key_data(key(1)))
        return jax.lax.scan(step, states, length=3)[1]

    with common.quiet():
        obs, expected, terminated, truncated = both(jnp.array([[0.0], [1.0]]))
    np.testing.assert_allclose(obs, expected, rtol=1e-4, atol=1e-5)
    assert truncated.tolist()[0] == [False, False, True]
    assert not terminated[0].any()
    if prefix == "brax":
        assert terminated[1, -1]  # on the step of the limit
        assert not truncated[1].any()


class Faller:
    """Brax's interface in small: falls (done) at its third step; rewards are the steps."""

    action_size = 1

    def reset(self, raw: Any) -> Any:
        assert raw.shape == (2,)
        assert raw.dtype == np.uint32
        return self._state(jnp.int32(0))

    def step(self, state: Any, action: Any) -> Any:
        return self._state(state["t"] + 1)

    def _state(self, t: Any) -> Any:
        obs = {"state": jnp.stack([t, t]).astype(jnp.float32), "privileged_state": jnp.zeros(9)}
        return BraxState(t=t, obs=obs, reward=t.astype(jnp.float32), done=(t == 3).astype(jnp.float32), metrics={})


@jax.tree_util.register_pytree_with_keys_class
class BraxState(dict[str, Any]):
    __getattr__ = dict.__getitem__

    def tree_flatten_with_keys(self) -> Any:
        names = sorted(self)
        return [(jax.tree_util.DictKey(name), self[name]) for name in names], names

    @classmethod
    def tree_unflatten(cls, names: Any, leaves: Any) -> Any:
        return cls(zip(names, leaves, strict=True))


@pytest.mark.parametrize(
    ("length", "repeat", "terminated", "truncated", "rewards"),
    [
        (5, 1, [0, 0, 1], [0, 0, 0], [1, 2, 3]),
        (3, 1, [0, 0, 1], [0, 0, 0], [1, 2, 3]),  # both at once: it terminated
        (2, 1, [0, 0], [0, 1], [1, 2]),
        (9, 2, [0, 1], [0, 0], [1 + 2, 3 + 4]),  # the fall is at the first of the second two
        (2, 2, [0], [1], [1 + 2]),
    ],
)
def test_brax_interface_ends(length: int, repeat: int, terminated: Any, truncated: Any, rewards: Any) -> None:
    from ppo2.envs.adapters.brax import BraxLike

    class Falling(BraxLike):
        prefix = "falling"

        @classmethod
        def ids(cls) -> list[str]:
            return ["faller"]

        def _build(self, name: str, **kwargs: Any) -> None:
            self._adapt(Faller(), length, repeat)

    env = Falling("faller")
    assert env.observation_space.shape == (2,)  # "state" of the two
    obs, reward, ended, cut = episode(env, jnp.zeros(1), len(rewards))
    assert (ended.tolist(), cut.tolist()) == ([bool(x) for x in terminated], [bool(x) for x in truncated])
    assert reward.tolist() == rewards
    assert obs[:, 0].tolist() == [repeat * (t + 1) for t in range(len(rewards))]


@needs("brax")
def test_brax_says_what_is_broken_and_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"'brax:swimmer'.*JAX no longer has\. Known are ant"):
        adapters.make("brax:swimmer")
    with pytest.raises(ValueError, match=r"`backnd` .*did you mean `backend`\?"):
        adapters.make("brax:ant", backnd="mjx")
    with pytest.raises(ValueError, match=r"`episode_length` \(=0\) must be a whole number of at least 1"):
        adapters.make("brax:ant", episode_length=0)


@needs("playground")
def test_playground_refuses_pictures() -> None:
    with pytest.raises(TypeError, match=r"CartpoleBalance\(vision=True\).*observation space of pictures"):
        adapters.make("playground:CartpoleBalance", vision=True)


# --- the others ---------------------------------------------------------------------------------------------------


@each("xminigrid", "navix")
def test_rooms_truncate_at_the_limit_and_terminate_at_the_goal(prefix: str) -> None:
    """An empty room of 3 by 3, the goal in the opposite corner: forward twice, right, forward twice."""
    forward, right = {"xminigrid": (0, 1), "navix": (2, 1)}[prefix]
    way = jnp.array([forward, forward, right, forward, forward], jnp.int32)
    start, _ = jax.jit(adapters.make(f"{prefix}:{SAMPLES[prefix]}").reset)(key(1))
    for limit, ends in ((5, (True, False)), (4, (False, True))):  # at 5 both at once: it terminated
        env = adapters.make(f"{prefix}:{SAMPLES[prefix]}", max_steps=limit)
        state, step = start, jax.jit(env.step)
        seen = []
        for action in way[:limit]:
            state, _, reward, *flags, _ = step(state, action, key())
            seen.append(tuple(map(bool, flags)))
        assert seen == [(False, False)] * (len(seen) - 1) + [ends]
        assert (reward > 0) == ends[0]


@needs("xminigrid")
def test_xminigrid_takes_parameters() -> None:
    env = adapters.make("xminigrid:MiniGrid-Empty-5x5", view_size=5)
    assert env.observation_space.shape == (5, 5, 2)
    seen = jax.eval_shape(lambda one: spaces.encode(env.observation_space, one), spaces.room(env.observation_space, ()))
    assert seen.shape == (5 * 5 * (13 + 12),)


@needs("pgx")
def test_pgx_terminates_with_the_true_last_observation() -> None:
    from pgx import make

    env = adapters.make("pgx:minatar-breakout")
    obs, reward, terminated, truncated = episode(env, jnp.int32(0), 40)
    end = int(terminated.argmax())
    assert terminated[end]
    assert not truncated.any()
    theirs = make("minatar-breakout")
    state, step = theirs.init(key(1)), jax.jit(theirs.step)
    for t, step_key in enumerate(jax.random.split(key(2), 40)[: end + 1]):
        state = step(state, jnp.int32(0), step_key)
        np.testing.assert_array_equal(obs[t], state.observation)
        assert reward[t] == state.rewards[0]
    assert state.terminated


@needs("pgx")
def test_pgx_freeway_is_cut_short_by_its_timer() -> None:
    env = adapters.make("pgx:minatar-freeway")
    state, _ = env.reset(key())
    late = state.replace(_terminate_timer=jnp.int32(1))  # two steps before it falls below 0
    _, _, terminated, truncated = episode(env, jnp.int32(0), 2, late)
    assert truncated.tolist() == [False, True]
    assert not terminated.any()


@needs("pgx")
@pytest.mark.parametrize(("name", "reason"), [("chess", "several players"), ("2048", "no action masks")])
def test_pgx_refuses_what_is_not_for_one_agent(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"`env` \(='pgx:{name}'\): .*{reason}.* Known are minatar-asterix"):
        adapters.make(f"pgx:{name}")


@needs("craftax")
def test_craftax_truncates_at_the_limit_and_terminates_at_death() -> None:
    name = "craftax:Craftax-Classic-Symbolic-v1"
    env = adapters.make(name, max_timesteps=2)
    state, _ = jax.jit(env.reset)(key())
    step = jax.jit(env.step)
    ends = []
    for start in (state, state.replace(player_health=jnp.int32(-9))):
        first, *_ = step(start, jnp.int32(0), key())
        ends.append(tuple(map(bool, step(first, jnp.int32(0), key())[3:5])))
    assert ends == [(False, True), (True, False)]
    with pytest.raises(ValueError, match="observations as pixels aren't adapted"):
        adapters.make("craftax:Craftax-Pixels-v1")
