"""Compiled programs: what shares them, and what doesn't."""

from typing import Any

import gymnasium as gym
import jax
import pytest

from ppo2.agent import compiled
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.envs import DeviceVector, TimeLimit
from support.device_cartpole import CARTPOLE, LIMIT, CartPole, Poisoned, fresh, learn

pytestmark = pytest.mark.usefixtures("quickly_compiled", "no_curve")


def test_a_second_run_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    learn()
    traced: list[Any] = []
    update = Model.update
    monkeypatch.setattr(Model, "update", lambda *args: traced.append(args) or update(*args))

    def count() -> int:
        kept = jax.tree.leaves(list(compiled.SHARED.values()))
        return sum(program._cache_size() for program in kept if hasattr(program, "_cache_size"))  # what JAX compiles

    before = set(compiled.SHARED), count()
    env = TimeLimit(CartPole(), LIMIT)
    assert env is not CARTPOLE
    learn(env=env, seed=8, lr="linear:1e-2", cliprange=0.1, ent_coef=0.1, gamma=0.9, total_timesteps=9 * 128)
    assert before == (set(compiled.SHARED), count())
    assert traced == []


class Own:
    """Equal to itself alone, and so free to change."""

    observation_space, action_space = CartPole.observation_space, gym.spaces.Discrete(2)
    bonus = 0.0

    def reset(self, key: Any) -> Any:
        return CartPole().reset(key)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        state, obs, reward, *rest = CartPole().step(state, action, key)
        return state, obs, reward + self.bonus, *rest


@pytest.mark.parametrize(
    "of",
    [lambda env: env, lambda env: TimeLimit(env, 3), lambda env: DeviceVector(env, 3)],
    ids=["as it is", "limited", "vector"],
)
def test_programs_of_an_environment_that_is_no_value_stay_with_the_model(of: Any) -> None:
    """Else a run after `env.bonus = 1` would go on with the program that was compiled before."""
    env, one, other = Own(), fresh(), fresh()
    before = set(compiled.SHARED)

    def make(_: Model, env: Any) -> object:
        return object()

    assert program(one, make, of(env)) is program(one, make, of(env))
    assert program(one, make, of(env)) is not program(other, make, of(env))
    assert set(compiled.SHARED) == before
    # while those of environments that are values are shared
    assert program(one, make, of(CartPole())) is program(other, make, of(CartPole()))


def test_values_of_other_types_do_not_share_programs() -> None:
    """0 == 0.0 in Python, but what they compile to differs."""
    made = fresh()
    assert program(made, lambda _, x: object(), (0,)) is not program(made, lambda _, x: object(), (0.0,))

    def make(_: Model, env: Any) -> object:
        return object()

    assert program(made, make, Poisoned(0)) is program(made, make, Poisoned(0))
    assert program(made, make, Poisoned(0)) is not program(made, make, Poisoned(0.0))  # type: ignore[arg-type]
