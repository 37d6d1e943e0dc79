"""Collecting experience from host environments."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from ppo2 import spaces
from ppo2.envs.stepping import AnyVectorEnv, Stepper
from ppo2.episodes import Episode, Record, Tally
from ppo2.model import Model
from ppo2.normaliser import Normaliser
from ppo2.randomness import Purpose, branch
from ppo2.rollout import Rollout

NDArray = np.ndarray[Any, Any]


class Outcome(NamedTuple):
    """The rows of the one array that carries a step's outcome to the device."""

    rewards: Any
    terminated: Any
    truncated: Any
    valid: Any
    bootstrapped: Any  # 1 where the value of the final observation is written already


class Buffer(NamedTuple):
    """A rollout being filled, on the device, and how many steps have been acted."""

    rollout: Rollout
    t: Int[Array, ""]


class Seconds(NamedTuple):
    """Where the time of a rollout went."""

    act: float
    step: float


class Runner:
    """Steps a vector environment with a model's policy.

    Args:
        env: Gymnasium vector environment, with any of its three autoreset modes.
        model: acts; its config's seed seeds the environments.
        nsteps: steps of the vector environment in a rollout.
        gamma, lam: discount per step and GAE's lambda, passed on in the rollout.

    Raises:
        ValueError: an unknown autoreset mode.
    """

    def __init__(self, *, env: AnyVectorEnv, model: Model, nsteps: int, gamma: float, lam: float) -> None:
        self.env = env
        self.model = model
        self.nsteps = nsteps
        self.nenvs = env.num_envs
        self.gamma, self.lam = np.float32(gamma), np.float32(lam)
        self.rollouts = 0
        self.seconds = Seconds(0.0, 0.0)
        self._stepper = Stepper(env)
        self._clock = time.perf_counter
        self._epoch = self._clock()
        self._obs: NDArray | None = None
        self._running_returns = np.zeros(self.nenvs, np.float32)
        self._tally = Tally(self.nenvs)

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, going on from where the last call stopped.

        Args:
            steps: stop after so many; the rest of the rollout is not valid.

        Raises:
            ValueError: the environment's first observations are not of its space.
        """
        steps = self.nsteps if steps is None else steps
        if self._obs is None:
            self._obs = self._stepper.reset(self.model.config.seed, Purpose.ENV)
        start, act, final_values = self._programs()
        state = self.model.state
        params, normaliser = state.params, state.normaliser
        buffer, noise = start(state.key, np.uint32(self.rollouts), self._running_returns, self.gamma, self.lam)
        record = Record.empty(steps, self.nenvs)
        outcome = np.zeros((len(Outcome._fields), self.nenvs), np.float32)
        obs, clock, before, acting = self._obs, self._clock, self._clock(), 0.0
        began = before
        for t in range(steps):
            env_actions, buffer = act(params, normaliser, noise, buffer, obs, outcome)
            # Waits for the device, so that it has read `obs` and `outcome` before they change.
            env_actions = np.asarray(env_actions)
            now = clock()
            acting += now - before
            step = self._stepper.step(env_actions)
            obs = step.obs
            before = clock()
            record.write(
                t,
                step.rewards,
                step.terminated | step.truncated,
                step.valid,
                before - self._epoch,
            )
            outcome[0] = step.rewards
            outcome[1] = step.terminated
            outcome[2] = step.truncated
            outcome[3] = step.valid
            if step.bootstrap is None:
                outcome[4] = 0.0
            else:
                buffer = final_values(params, normaliser, buffer, step.final_obs, outcome.copy(), step.bootstrap)
                outcome[4] = step.bootstrap
        left = outcome[4] == 0.0
        rollout: Rollout = final_values(params, normaliser, buffer, np.array(obs), outcome, left).rollout
        self._obs = obs
        self.rollouts += 1
        self._running_returns = record.carry_returns(self._running_returns, float(self.gamma))
        self._tally.add(record)
        self.seconds = Seconds(act=acting, step=before - began - acting)
        return rollout

    def began(self, clock: float) -> None:
        """Sets the instant (of `time.perf_counter`) from which episodes' times count; else it is the runner's birth."""
        self._epoch = clock

    def episodes(self) -> list[Episode]:
        """The episodes that ended since the last call, in the order in which they ended."""
        return self._tally.take()

    def _programs(self) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
        program = self.model.program
        nsteps, nenvs = self.nsteps, self.nenvs
        return (
            lambda *args: program(start_program)(nsteps, nenvs, *args),
            program(act_program),
            program(final_values_program),
        )


def start_program(model: Model) -> Callable[..., tuple[Buffer, Float[Array, "T N p"]]]:
    """An empty rollout and the noise of all its actions.

    One draw for the whole rollout: the same bits whatever steps it, and a quarter of the cost of one in each step.
    """
    space, distribution = model.observation_space, model.distribution

    def start(
        nsteps: int,
        nenvs: int,
        key: PRNGKeyArray,
        index: Int[Array, ""],
        running_returns: Float[Array, " N"],
        gamma: Float[Array, ""],
        lam: Float[Array, ""],
    ) -> tuple[Buffer, Float[Array, "T N p"]]:
        noise = distribution.noise(jax.random.fold_in(branch(key, Purpose.ACT), index), (nsteps, nenvs))

        def room(shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Shaped[Array, "T N ..."]:
            return jnp.zeros((nsteps, nenvs, *shape), dtype)

        rollout = Rollout(
            obs=room(space.shape or (), spaces.device_dtype(space)),
            actions=room(distribution.shape, distribution.dtype),
            logp=room(),
            values=room(),
            rewards=room(),
            next_values=room(),
            terminated=room(dtype=bool),
            truncated=room(dtype=bool),
            valid=room(dtype=bool),
            running_returns=running_returns,
            gamma=gamma,
            lam=lam,
        )
        return Buffer(rollout, jnp.zeros((), jnp.int32)), noise

    return jax.jit(start, static_argnums=(0, 1))


def act_program(model: Model) -> Callable[..., tuple[Shaped[Array, "N ..."], Buffer]]:
    """Acts on the observations of step t, and files them with the outcome of step t - 1."""

    def act(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        noise: Float[Array, "T N p"],
        buffer: Buffer,
        obs: Shaped[Array, "N ..."],
        outcome: Float[Array, "5 N"],
    ) -> tuple[Shaped[Array, "N ..."], Buffer]:
        rollout, t = buffer
        acted = model.policy_of(params).act(normaliser, obs, jax.lax.dynamic_index_in_dim(noise, t, keepdims=False))
        # At t = 0 this writes nonsense into row 0, which the next call overwrites.
        rollout = file_outcome(rollout, t - 1, Outcome(*outcome), acted.values, outcome[4] == 0.0)
        rollout = rollout._replace(
            obs=_put(rollout.obs, obs.astype(rollout.obs.dtype), t),
            actions=_put(rollout.actions, acted.actions, t),
            logp=_put(rollout.logp, acted.logp, t),
            values=_put(rollout.values, acted.values, t),
        )
        return acted.env_actions, Buffer(rollout, t + 1)

    return jax.jit(act, donate_argnums=3)


def final_values_program(model: Model) -> Callable[..., Buffer]:
    """Files V of observations that no later step will act on: an episode's last, and the rollout's."""

    def final_values(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        buffer: Buffer,
        obs: Shaped[Array, "N ..."],
        outcome: Float[Array, "5 N"],
        rows: Bool[Array, " N"],
    ) -> Buffer:
        _, values = model.policy_of(params)(normaliser, obs)
        return buffer._replace(rollout=file_outcome(buffer.rollout, buffer.t - 1, Outcome(*outcome), values, rows))

    return jax.jit(final_values, donate_argnums=2)


def file_outcome(
    rollout: Rollout, t: Int[Array, ""], outcome: Outcome, values: Float[Array, " N"], rows: Bool[Array, " N"]
) -> Rollout:
    """What step t led to; `values` are V of its next observations where `rows`."""
    before = jax.lax.dynamic_index_in_dim(rollout.next_values, t, keepdims=False)
    return rollout._replace(
        rewards=_put(rollout.rewards, outcome.rewards, t),
        next_values=_put(rollout.next_values, jnp.where(rows, values, before), t),
        terminated=_put(rollout.terminated, outcome.terminated > 0, t),
        truncated=_put(rollout.truncated, outcome.truncated > 0, t),
        valid=_put(rollout.valid, outcome.valid > 0, t),
    )


def _put(field: Shaped[Array, "T N ..."], row: Shaped[Array, "N ..."], t: Int[Array, ""]) -> Shaped[Array, "T N ..."]:
    """`field` with its row t replaced. Out of range is clamped, which is cheaper than `.at[t]`'s wrapping around."""
    updated: Array = jax.lax.dynamic_update_index_in_dim(field, row, t, axis=0)
    return updated
