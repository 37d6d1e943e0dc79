"""Environments of XLand-MiniGrid."""

import jax

from ppo2 import spaces
from ppo2.envs import adapters
from support.adapters import check_room, needs


@needs("xminigrid")
def test_rooms_truncate_at_the_limit_and_terminate_at_the_goal() -> None:
    check_room("xminigrid", forward=0, right=1)


@needs("xminigrid")
def test_xminigrid_takes_parameters() -> None:
    env = adapters.make("xminigrid:MiniGrid-Empty-5x5", view_size=5)
    assert env.observation_space.shape == (5, 5, 2)
    seen = jax.eval_shape(
        lambda one: spaces.encode(env.observation_space, one), spaces.zeros(env.observation_space, ())
    )
    assert seen.shape == (5 * 5 * (13 + 12),)
