"""Environments of Brax and of libraries with its interface, each against the library itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ppo2.envs import adapters
from ppo2.envs.adapters import common
from ppo2.envs.adapters.brax import BraxLike
from support.adapters import SAMPLES, check_types, each, episode, key, needs


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
