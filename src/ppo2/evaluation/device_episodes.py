"""Episodes of device environments for an evaluation, many steps in one compiled program."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ppo2 import spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import Normaliser
from ppo2.envs.device.env import DeviceEnv, DeviceVector
from ppo2.envs.device.info import recorded_keys
from ppo2.envs.device.unroll import EnvCarry, initial_carry, unroll
from ppo2.evaluation.limits import EpisodeEnd, EpisodeLimit, known_numbers
from ppo2.evaluation.not_finite import not_finite_obs, not_finite_reward
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, environment_keys, root_key

NDArray = np.ndarray[Any, Any]

LOOK_EVERY = 128
"""Steps on the device between two looks at which episodes are over."""


class Steps(NamedTuple):
    """Some steps of device environments.

    Attributes:
        returns, lengths: returns and lengths of the episodes that ended in each step, else 0.
        infos: numbers of `info` in each step, by key.
        cut: True for those that ended by `max_steps`.
        bad_part: index in `spaces.part_names` of what is NaN or infinite in the observation before each step; -1: none.
        bad_next_part: the same in the observation after it, unless the episode terminated.
        bad_reward: True for a reward that is NaN or infinite.
        no_legal_action: True for states without one; None without masks.
    """

    returns: Float[Array, "T N"]
    lengths: Int[Array, "T N"]
    infos: Float[Array, "T N k"]
    cut: Bool[Array, "T N"]
    bad_part: Int[Array, "T N"]
    bad_next_part: Int[Array, "T N"]
    bad_reward: Bool[Array, "T N"]
    no_legal_action: Bool[Array, "T N"] | None


def run_on_device(
    model: Model,
    env: DeviceVector,
    first: int,
    deterministic: bool,
    seed: int,
    left: NDArray,
    limit: EpisodeLimit,
    info_keys: Sequence[str],
) -> Iterator[Sequence[EpisodeEnd]]:
    """The episodes that end between two looks of the host; `left` says which environments have any to play."""
    with model.learning():
        key = root_key(seed, Purpose.EVALUATE)
        running = jax.device_put(initial_carry(env.env, env.num_envs, model.initial_state(env.num_envs)))
        keys = program(model, recorded_keys, env.env, tuple(info_keys), False)
        steps = program(model, _steps_program, env.env, deterministic, keys)
    indices = np.arange(first, first + env.num_envs, dtype=np.int32)
    max_steps = np.int32(min(limit.steps, np.iinfo(np.int32).max))
    for count in itertools.count():
        limit.look(np.asarray(running.lengths)[left > 0])
        with model.learning():
            running, some = steps(
                model.state.params, model.state.normaliser, running, key, np.uint32(count), indices, max_steps
            )
            some = jax.tree.map(np.asarray, some)
        _check_steps(model, some, left > 0, first, count * LOOK_EVERY)
        yield [
            EpisodeEnd(
                int(i),
                float(some.returns[t, i]),
                int(some.lengths[t, i]),
                known_numbers(keys, some.infos[t, i]),
                partial=bool(some.cut[t, i]),
            )
            for t, i in np.argwhere(some.lengths)
        ]


def _steps_program(
    model: Model, env: DeviceEnv, deterministic: bool, info_keys: tuple[str, ...]
) -> Callable[..., tuple[EnvCarry, Steps]]:
    masked = spaces.is_masked(model.observation_space)

    def steps(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        running: EnvCarry,
        key: PRNGKeyArray,
        count: Int[Array, ""],
        indices: Int[Array, " N"],
        max_steps: Int[Array, ""],
    ) -> tuple[EnvCarry, Steps]:
        policy = model.policy_of(params)
        act_keys, env_keys = environment_keys(key, (Purpose.ACT, Purpose.ENV), count, indices)
        noise = model.acting_noise(act_keys, LOOK_EVERY)

        def act(obs: Array, now: Array, recurrent_state: Any, episode_starts: Array) -> tuple[PyTree[Array], Any]:
            obs = normaliser.on_device(obs)
            if not deterministic:
                drawn = model.step_noise(act_keys, now)
                return policy.act(normaliser, obs, drawn, recurrent_state, episode_starts)
            output = policy(normaliser, obs, recurrent_state, episode_starts)
            return output.distribution.mode(), output.recurrent_state

        running, step = unroll(env, act, running, noise, env_keys, model.distribution, info_keys, max_steps)
        assert step.cut is not None
        return running, Steps(
            returns=step.returns,
            lengths=step.lengths,
            infos=step.infos,
            cut=step.cut,
            bad_part=spaces.not_finite_part(step.obs, 2),
            bad_next_part=jnp.where(step.terminated, -1, spaces.not_finite_part(step.next_obs, 2)),
            bad_reward=~jnp.isfinite(step.rewards),
            no_legal_action=model.distribution.none_legal(step.obs["action_mask"]) if masked else None,
        )

    return compiled(steps, donate_argnums=2)


def _check_steps(model: Model, steps: Steps, counted: NDArray, first: int, begun: int) -> None:
    """Raises ValueError for what no policy can act on, or no return hold, in environments that are `counted`.

    Args:
        steps: some steps, as NumPy's arrays.
        begun: steps of the evaluation before these.
    """
    parts = spaces.part_names(model.observation_space)
    for bad, later in ((steps.bad_part, 0), (steps.bad_next_part, 1)):
        for t, i in np.argwhere((bad >= 0) & counted)[:1].tolist():
            raise not_finite_obs(parts[bad[t, i]], first + i, begun + t + later)
    for t, i in np.argwhere(steps.bad_reward & counted)[:1].tolist():
        raise not_finite_reward(first + i, begun + t + 1)
    if steps.no_legal_action is not None:
        when = np.argmax(steps.no_legal_action, axis=0)
        here = np.asarray(steps.no_legal_action).any(axis=0) & counted
        spaces.check_legal(here, "`env`", f", at step {begun + when[np.argmax(here)]}")
