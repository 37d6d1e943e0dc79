"""The model: a policy, what it needs to learn, and the update."""

import copy
import dataclasses
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ppo2 import networks, spaces
from ppo2.agent.compiled import SHARED, Programs, identity_key, is_immutable, typed_key
from ppo2.agent.policy import Policy, build_policy
from ppo2.algorithm.gae import gae
from ppo2.algorithm.losses import Stats, normalise_advantages, ppo_loss
from ppo2.algorithm.normaliser import Normaliser
from ppo2.algorithm.rollout import Batch, Rollout, accumulate, flatten, minibatches, sequences, shuffle_bits, slices
from ppo2.algorithm.train_state import (
    Counters,
    Fault,
    FaultKind,
    Hyperparameters,
    TrainState,
    UpdateStats,
    copied,
    find_fault,
    is_finite,
    only_finite,
)
from ppo2.checkpoints import checkpoint, tensors
from ppo2.config import Config, is_placeholder, placeholder_in
from ppo2.distributed import heartbeat
from ppo2.numerics import schedules, sharding
from ppo2.numerics.pieces import piece_size
from ppo2.numerics.randomness import Purpose, abstract_key, copied_key, root_key, stream
from ppo2.numerics.sharding import BY_ENV, BY_STEP, ONE_DEVICE, REPLICATED, DataAxis
from ppo2.numerics.statistics import explained_variance

P = TypeVar("P")

ADAM_EPSILON = 1e-5  # Baselines' ppo2 (TensorFlow 1)


class _Carry(NamedTuple):
    params: Float[Array, " P"]
    opt_state: optax.ScaleByAdamState
    stopped: Bool[Array, ""]


class _Step(NamedTuple):
    """What one minibatch leaves behind. `computed` is 0 for one that `target_kl` skipped."""

    stats: Stats
    grad_norm: Float[Array, ""]
    finite: Bool[Array, ""]
    computed: Float[Array, ""]
    taken: Int[Array, ""]


class ActResult(NamedTuple):
    """What the policy says to a batch of observations; actions as the distribution gives them.

    `recurrent_state`: (N, ...), for the next step; None for feed-forward policies. `no_legal_action`: whether a mask
    leaves no legal action; None without masks.
    """

    sampled: PyTree[Array]
    mode: PyTree[Array]
    values: Float[Array, " N"]
    logp: Float[Array, " N"]
    recurrent_state: networks.State
    no_legal_action: Bool[Array, " N"] | None


class Acting(NamedTuple):
    """What a policy acts by, in arrays of the host: for a copy of it in another process. See `TrainState`."""

    params: Any
    normaliser: Any
    key: Any
    key_impl: str


class Model:
    """A policy that acts and learns.

    Replace the loss by overriding `loss`, how gradients are made by overriding `gradients`; both are pure and traced
    once. `learn(model_fn=...)` takes the subclass.

    Args:
        policy: fresh, from `build_policy`.
        config: how to learn.
        key: root of the model's random streams.
    """

    loss_names = Stats._fields

    def __init__(self, *, policy: Policy, config: Config, key: PRNGKeyArray) -> None:
        self.config = config
        self.observation_space = policy.observation_space.space
        self.action_space = policy.action_space.space
        self.distribution = policy.distribution
        arrays, self._static = eqx.partition(policy, eqx.is_inexact_array)
        params, self._unravel = ravel_pytree(arrays)
        self._shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays))
        self.state = TrainState(
            params=params,
            normaliser=Normaliser.start(
                self.observation_space,
                normalize_obs=config.normalize_obs,
                normalize_rewards=config.normalize_rewards,
            ),
            opt_state=_adam().init(params),
            key=copied_key(key),  # training donates it
            counters=Counters.zero(),
        )
        self._recurrent_shape = jax.eval_shape(policy.initial_state)
        self._act_count = 0
        self._own_programs = Programs()

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy_of(self, params: Float[Array, " P"]) -> Policy:
        """The policy with the given flat parameters; pure."""
        policy: Policy = eqx.combine(self._unravel(params), self._static)
        return policy

    @property
    def policy(self) -> Policy:
        """The policy as it stands."""
        return self.policy_of(self.state.params)

    def step(
        self,
        obs: Any,
        S: Any = None,
        M: Any = None,
    ) -> tuple[Any, np.ndarray[Any, Any], Any, np.ndarray[Any, Any]]:
        """Samples an action for each observation: (actions, values, states, neglogpacs), as in Baselines.

        Args:
            obs: one observation or a batch (N, ...).
            S: for recurrent policies, the state that the last call returned, (N, ...), with N = 1 for one observation;
                None: every episode begins here.
            M: (N,), which episodes begin here, so that their state starts anew; None: none of them.

        Actions are as the environment wants them: an array, or a tuple or dict of arrays (of one observation: a member
        of the action space); `neglogpacs` belongs to the sample before it was clipped. Draws from a stream of its own,
        so that calling it never changes training.

        Raises:
            ValueError: see `ppo2.spaces.observation`; or a state that isn't of this policy.
        """
        result, single = self._act_on(obs, S, M)
        values, logp = np.asarray(result.values), np.asarray(result.logp)
        actions = self._actions(result.sampled, single)
        states = jax.tree.map(np.asarray, result.recurrent_state)
        return actions, values[0] if single else values, states, -logp[0] if single else -logp

    def predict(
        self,
        obs: Any,
        states: Any = None,
        M: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """The most probable action for one observation or each of a batch (or a sample), and the next state.

        Args:
            obs: one observation or a batch (N, ...).
            states, M: as for `step`.
            deterministic: False samples, from the same stream as `step`.

        Raises:
            ValueError: as for `step`.
        """
        result, single = self._act_on(obs, states, M)
        after = jax.tree.map(np.asarray, result.recurrent_state)
        return self._actions(result.mode if deterministic else result.sampled, single), after

    def value(self, obs: Any, S: Any = None, M: Any = None) -> np.ndarray[Any, Any]:
        """V of one observation, or of each of a batch. Arguments and errors as for `step`."""
        result, single = self._act_on(obs, S, M)
        values = np.asarray(result.values)
        return np.asarray(values[0]) if single else values

    @property
    def is_recurrent(self) -> bool:
        """Whether the policy remembers what it saw."""
        return self._recurrent_shape is not None

    def initial_state(self, nenvs: int) -> networks.State:
        """The state, (nenvs, ...), that recurrent policies begin episodes with; None for others.

        Raises:
            ValueError: `nenvs` below 1.
        """
        if nenvs < 1:
            raise ValueError(f"`nenvs` (={nenvs}) must be at least 1.")
        if not self.is_recurrent:
            return None
        # it may be learned
        one = jax.device_get(self.program(_initial_program)(self.state.params))
        initial: networks.State = jax.tree.map(lambda x: np.stack([x] * nenvs), one)
        return initial

    def slices(self, nsteps: int) -> int:
        """Into how many sequences each environment's steps are cut to learn from."""
        config = self.config
        if not self.is_recurrent:
            return 1
        return slices(config.num_envs // config.shards, nsteps, config.nminibatches)

    def _act_on(self, obs: Any, state: Any, episode_starts: Any) -> tuple[ActResult, bool]:
        batch, single = spaces.observation(self.observation_space, obs)
        count = len(jax.tree.leaves(batch)[0])
        if not count:
            raise ValueError("`obs` holds no observation: expected at least one.")
        recurrent_state = self._checked_state(state, episode_starts, count)
        result = self.act_on(batch, self.state.key, self._act_count, *recurrent_state)
        self._act_count += 1
        if result.no_legal_action is not None:
            spaces.check_legal(np.asarray(result.no_legal_action), "`obs`")
        return result, single

    def _checked_state(self, state: Any, episode_starts: Any, nenvs: int) -> tuple[Any, Any]:
        """The state and where episodes begin, for the policy."""
        if self._recurrent_shape is None:
            if state is not None:
                raise ValueError(
                    f"this policy has no state to pass on (S, states): expected None, got {type(state).__name__}."
                )
            return None, None
        starts = np.full(nenvs, state is None) if episode_starts is None else np.asarray(episode_starts).reshape(-1)
        if starts.shape != (nenvs,) or starts.dtype.kind not in "biuf" or np.isnan(starts).any():
            raise ValueError(f"`M` (={episode_starts!r}) must hold one flag for each of {nenvs} environments.")
        if state is None:
            return self.initial_state(nenvs), np.ones(nenvs, bool)
        # its shapes are known: making one for each question would cost another call
        expected = (
            jax.tree.structure(self._recurrent_shape),
            [(nenvs, *x.shape) for x in jax.tree.leaves(self._recurrent_shape)],
        )
        found = _shapes(state)
        if expected != found:
            raise ValueError(
                f"the state (S, states) of {nenvs} environments is {expected}; found {found}. Pass what the last call "
                "returned, or None where all episodes begin."
            )
        return state, starts.astype(bool)

    def act_on(
        self, obs: Any, key: PRNGKeyArray, count: int, state: networks.State = None, episode_starts: Any = None
    ) -> ActResult:
        """The policy's answer to a checked batch of observations; the sample is drawn from (key, count)."""
        program, now = self.program(_act_program), self.state
        return program(now.params, now.normaliser, obs, key, np.uint32(count), state, episode_starts)

    def _actions(self, actions: PyTree[Array], single: bool) -> Any:
        squash = self.distribution.squashes
        batch = spaces.to_environment(self.action_space, jax.device_get(actions), squash=squash)
        return spaces.separate(self.action_space, batch)[0] if single else batch

    def acting_noise(self, keys: PRNGKeyArray, steps: int) -> Float[Array, "T N p"]:
        """The noise of a whole rollout's actions, from a key for each environment; pure.

        One draw for all steps: a quarter of the cost of one in each. One stream for each environment: the same bits
        wherever it is stepped.
        """
        return jax.vmap(lambda key: self.distribution.noise(key, (steps,)), out_axes=1)(keys)

    # --- learning -------------------------------------------------------------------------------------------------

    def train(
        self, rollout: Rollout, *, lr: float, cliprange: float, value_cliprange: float | None = None
    ) -> UpdateStats:
        """One update: all epochs and minibatches, in one compiled program.

        An update whose data, loss or gradients are not finite leaves the state as it was: see `UpdateStats.fault`.

        Args:
            rollout: from a runner.
            lr, cliprange: for this update.
            value_cliprange: for this update; None: what `config.value_cliprange` says at the start of training.
        """
        hyper = self.hyperparameters(lr=lr, cliprange=cliprange, value_cliprange=value_cliprange)
        axis = sharding.across_processes()
        program = self.program(_train_program, axis)
        into = (REPLICATED, ROLLOUT, REPLICATED)
        heartbeat.at_collective(axis)
        made = program(*sharding.to_global((self.state, rollout, hyper), axis, into))
        stats: UpdateStats
        self.state, stats = sharding.to_local(made, axis, REPLICATED)
        return stats

    def hyperparameters(self, *, lr: float, cliprange: float, value_cliprange: float | None = None) -> Hyperparameters:
        """The numbers for one update; see `train`."""
        config = self.config
        if config.value_cliprange is None:
            if value_cliprange is not None:
                raise ValueError("`value_cliprange` was None when the model was made, which switches it off for good.")
            value_clip = None
        elif value_cliprange is not None or config.value_cliprange == "same":
            value_clip = cliprange if value_cliprange is None else value_cliprange
        else:
            value_clip = schedules.parse(config.value_cliprange, "value_cliprange")(1.0)
        numbers = (lr, cliprange, value_clip, config.ent_coef, config.vf_coef, config.max_grad_norm, config.target_kl)
        scalars: Any = [None if number is None else np.float32(number) for number in numbers]
        return Hyperparameters(*scalars)

    def loss(
        self, policy: Policy, normaliser: Normaliser, batch: Batch, hyper: Hyperparameters
    ) -> tuple[Float[Array, ""], Stats]:
        """The loss of one minibatch, whose advantages are normalised already. Override to change the objective."""
        now = policy.evaluate(normaliser, batch.obs, batch.actions, batch.recurrent_state, batch.episode_starts)
        return ppo_loss(
            now.logp,
            now.entropy,
            now.values,
            old_logp=batch.logp,
            old_values=batch.values,
            advantages=batch.advantages,
            returns=batch.returns,
            weights=batch.weights,
            cliprange=hyper.cliprange,
            value_cliprange=hyper.value_cliprange,
            ent_coef=hyper.ent_coef,
            vf_coef=hyper.vf_coef,
        )

    def gradients(
        self, params: Float[Array, " P"], normaliser: Normaliser, batch: Batch, hyper: Hyperparameters
    ) -> tuple[Float[Array, " P"], Stats]:
        """Gradient of the loss of one minibatch. Override to make it in another way."""

        def of_piece(batch: Batch) -> tuple[Float[Array, " P"], Stats]:
            def objective(params: Float[Array, " P"]) -> tuple[Float[Array, ""], Stats]:
                return self.loss(self.policy_of(params), normaliser, batch, hyper)

            gradient, stats = jax.grad(objective, has_aux=True)(params)
            return gradient, stats

        return accumulate(of_piece, batch, self._piece(*batch.weights.shape))

    def _piece(self, size: int, length: int | None = None) -> int:
        """How many of a minibatch's samples, or of its sequences of `length` steps, to make the gradient of at once."""
        return piece_size(size) if length is None else size

    def update(
        self, state: TrainState, rollout: Rollout, hyper: Hyperparameters, axis: DataAxis = ONE_DEVICE
    ) -> tuple[TrainState, UpdateStats]:
        """`train` as a pure function: learning from a rollout, then the observations' statistics.

        Override to learn in another way. What isn't finite, in the data or in what comes of it, is kept from the model
        by whoever calls it: see `only_finite`.

        `axis` says which of the environments `rollout` is of; the state that comes back is the same in every block.
        """
        shards = self.config.shards // axis.devices
        normaliser = state.normaliser.with_returns(rollout, axis)
        whole = self._batch(normaliser, rollout)
        batch = flatten(sequences(whole), shards)
        random = shuffle_bits(
            stream(state.key, Purpose.SHUFFLE, state.counters.updates),
            epochs=self.config.noptepochs,
            total=batch.weights.shape[0] * axis.devices,
            shards=self.config.shards,
        )
        random = jax.lax.dynamic_slice_in_dim(random, axis.index * shards, shards, axis=1)

        def step(carry: _Carry, minibatch: tuple[Batch, Float[Array, ""]]) -> tuple[_Carry, _Step]:
            return self._minibatch_step(carry, normaliser, *minibatch, hyper, axis)

        def epoch(carry: _Carry, random: Array) -> tuple[_Carry, _Step]:
            cut = minibatches(batch, random, nminibatches=self.config.nminibatches)
            normalised = jax.vmap(lambda a, w: normalise_advantages(a, w, axis))(cut.advantages, cut.weights)
            mine = jnp.sum(cut.weights.reshape(cut.weights.shape[0], -1), axis=1)
            share = mine / jnp.maximum(axis.sum(mine), 1.0)  # this block's in each minibatch
            return jax.lax.scan(step, carry, (cut._replace(advantages=normalised), share))

        start = _Carry(state.params, state.opt_state, jnp.zeros((), bool))
        end, steps = jax.lax.scan(epoch, start, random)
        fault = find_fault(self.observation_space, self.distribution, rollout, jnp.all(steps.finite), axis)
        learned = state._replace(
            params=end.params, normaliser=normaliser.with_observations(rollout, axis), opt_state=end.opt_state
        )
        count = state.counters
        counters = Counters(
            updates=count.updates + 1,
            gradient_steps=count.gradient_steps + jnp.sum(steps.taken),
            skipped_updates=count.skipped_updates,
        )
        share = steps.computed / jnp.sum(steps.computed)
        means = Stats(*(jnp.sum(x * share) for x in steps.stats))
        return learned._replace(counters=counters), UpdateStats(
            **means._asdict(),
            grad_norm=jnp.sum(steps.grad_norm * share),
            explained_variance=explained_variance(
                whole.values.ravel(), whole.returns.ravel(), whole.weights.ravel(), axis
            ),
            gradient_steps=jnp.sum(steps.taken),
            fault=fault.kind,
            fault_index=fault.step,
        )

    def _batch(self, normaliser: Normaliser, rollout: Rollout) -> Batch:
        """The rollout with its advantages and returns, (T, N, ...)."""
        terminated = rollout.terminated
        if not self.config.bootstrap_truncated:
            terminated = terminated | rollout.truncated
        advantages = gae(
            normaliser.scale_rewards(rollout.rewards),
            rollout.values,
            rollout.next_values,
            terminated,
            rollout.truncated,
            rollout.valid,
            gamma=rollout.gamma,
            lam=rollout.lam,
        )
        return Batch(
            obs=rollout.obs,
            actions=rollout.actions,
            logp=rollout.logp,
            values=rollout.values,
            advantages=advantages,
            returns=advantages + rollout.values,
            weights=rollout.valid.astype(jnp.float32),
            episode_starts=rollout.episode_starts,
            recurrent_state=rollout.recurrent_state,
        )

    def _minibatch_step(
        self,
        carry: _Carry,
        normaliser: Normaliser,
        batch: Batch,
        share: Float[Array, ""],
        hyper: Hyperparameters,
        axis: DataAxis,
    ) -> tuple[_Carry, _Step]:
        """One gradient step, unless `target_kl` has stopped this update."""

        def learn(carry: _Carry) -> tuple[_Carry, _Step]:
            gradient, stats = self.gradients(carry.params, normaliser, batch, hyper)
            if axis.devices > 1:
                gradient, stats = axis.sum(jax.tree.map(lambda x: x * share, (gradient, stats)))
            norm = jnp.linalg.norm(gradient)
            if hyper.max_grad_norm is not None:
                gradient = gradient * (hyper.max_grad_norm / jnp.maximum(norm, hyper.max_grad_norm))
            direction, opt_state = _adam().update(gradient, carry.opt_state)
            after = _Carry(carry.params - hyper.lr * direction, opt_state, carry.stopped)
            if hyper.target_kl is not None:
                stop = stats.approxkl > hyper.target_kl
                after = jax.tree.map(lambda new, old: jnp.where(stop, old, new), after, carry)._replace(stopped=stop)
            finite = jnp.isfinite(norm) & jnp.isfinite(stats.policy_loss) & jnp.isfinite(stats.value_loss)
            return after, _Step(stats, norm, finite, jnp.ones(()), (~after.stopped).astype(jnp.int32))

        if hyper.target_kl is None:
            return learn(carry)
        nothing = _Step(Stats.zero(), jnp.zeros(()), jnp.ones((), bool), jnp.zeros(()), jnp.int32(0))
        carry, done = jax.lax.cond(carry.stopped, lambda carry: (carry, nothing), learn, carry)
        return carry, done

    def observe(self, rollout: Rollout, axis: DataAxis | None = None) -> Fault:
        """Counts a rollout into the normaliser's statistics without learning from it, unless it has a fault.

        Args:
            axis: over which devices to sum; None: one of each process.
        """
        axis = sharding.across_processes() if axis is None else axis
        heartbeat.at_collective(axis)
        program = self.program(_observe_program, axis)
        made = program(*sharding.to_global((self.state, rollout), axis, (REPLICATED, ROLLOUT)))
        fault: Fault
        self.state, fault = sharding.to_local(made, axis, REPLICATED)
        return fault

    def observed(self, state: TrainState, rollout: Rollout, axis: DataAxis = ONE_DEVICE) -> tuple[TrainState, Fault]:
        """`observe` as a pure function."""
        fault = find_fault(self.observation_space, self.distribution, rollout, jnp.ones((), bool), axis)
        seen = state.normaliser.with_returns(rollout, axis).with_observations(rollout, axis)
        good = fault.kind == FaultKind.NONE
        unseen = jnp.where(good & ~is_finite(seen), FaultKind.STATISTICS_NOT_FINITE, fault.kind).astype(jnp.int32)
        kept = jax.tree.map(lambda new, old: jnp.where(unseen == FaultKind.NONE, new, old), seen, state.normaliser)
        return state._replace(normaliser=kept), fault._replace(kind=unseen)

    def start_anew(self, key: PRNGKeyArray) -> None:
        """Keeps what was learned, with other random streams and counters from 0."""
        self.state = self.state._replace(key=copied_key(key), counters=Counters.zero())
        self._act_count = 0

    # --- compiling ------------------------------------------------------------------------------------------------

    def program(self, make: Callable[..., P], *of: Any) -> P:
        """`make(model, *of)`, made once for all models that compile to the same thing.

        `make` may use all of the model but its state, which is an argument of whatever it compiles. What else it needs
        (`of`) is compared; an object that only equals itself, such as a user's environment, may change between two
        trainings, so its programs stay this model's own.
        """
        identity = self._identity()
        shared = identity is not None and all(map(is_immutable, of))
        programs = SHARED if shared else self._own_programs
        key = (make, identity, *map(typed_key if shared else identity_key, of))
        return programs.get(key, lambda: make(self._blank(), *of))

    def _blank(self) -> "Model":
        """The model without what programs must not keep alive: arrays, environments, other programs."""
        blank = copy.copy(self)
        del blank.state, blank._own_programs
        blank.config = dataclasses.replace(self.config, env=None, eval_env=None, model_fn=None)
        return blank

    def shell(self) -> "Shell":
        """The model without its state, to be sent to another process."""
        blank, arrays = self._blank(), self._unravel(self.state.params)
        del blank._unravel  # how JAX describes a tree doesn't travel; the tree does
        return Shell(blank, jax.tree.map(np.zeros_like, jax.device_get(arrays)))

    def acting(self) -> Acting:
        """What a copy of the policy acts by."""
        state = self.state
        params, normaliser, key = jax.device_get((state.params, state.normaliser, jax.random.key_data(state.key)))
        return Acting(params, normaliser, key, str(jax.random.key_impl(state.key)))

    def act_by(self, acting: Acting) -> None:
        """Acts like the model that `acting` is from, from now on."""
        params, normaliser, key = jax.device_put(acting[:3])
        key = jax.random.wrap_key_data(key, impl=acting.key_impl)
        self.state = TrainState(params, normaliser, _adam().init(params[:0]), key, Counters.zero())

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """A model with a state of its own: what stays of this one while it trains on, since training donates arrays."""
        twin = copy.copy(self)
        twin.state = copied(self.state, jnp.array)
        return twin

    def _identity(self) -> Hashable | None:
        """What compiled programs depend on; None if only this very model can say."""
        return self._trace_identity() if type(self) is Model else None

    def _trace_identity(self) -> Hashable | None:
        leaves, structure = jax.tree.flatten(self._static)
        identity = (type(self), tuple(leaves), structure, self._shapes, self.config.trace)
        patched = set(vars(self)) & set(dir(type(self)))  # a method replaced on the instance
        try:
            hash(identity)
        except TypeError:  # a user's network that holds something unhashable
            return None
        return None if patched else identity

    # --- files ----------------------------------------------------------------------------------------------------

    def save(
        self,
        path: str | Path,
        *,
        run: Mapping[str, Any] | None = None,
        runner: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> Path:
        """Writes the whole state, the settings and the spaces to one file (see `ppo2.checkpoints.checkpoint`).

        Args:
            path: the file; by convention it ends in `.safetensors`.
            run, runner: where training stands, for `learn` to go on from, and its runner's arrays.

        Raises:
            OSError: it can't be written; what was there before is untouched.
        """
        return self.saver(run=run, runner=runner)(path)

    def saver(
        self, *, run: Mapping[str, Any] | None = None, runner: Mapping[str, np.ndarray[Any, Any]] | None = None
    ) -> Callable[[str | Path], Path]:
        """What writes the model as it is now, to a path, whatever training does meanwhile; for another thread too."""
        # all that is done at once: flat vectors to copy, before the next update is donated them
        now = copied(self.state, np.array)
        arrays = {name: np.array(array) for name, array in (runner or {}).items()}
        metadata = {
            "config": self.config.to_json(),
            "observation_space": spaces.describe(self.observation_space),
            "action_space": spaces.describe(self.action_space),
            "key_impl": str(jax.random.key_impl(self.state.key)),
            "responses": self._act_count,
            "run": dict(run or {}),
        }
        unravel = self._unravel

        def write(path: str | Path) -> Path:
            return checkpoint.save(path, {**tensors.to_tensors(now, unravel), **arrays}, metadata)

        return write

    def restore(self, saved: checkpoint.Checkpoint) -> None:
        """Takes over parameters, optimiser, normaliser, key and counters, the count of `step`'s answers included.

        Raises:
            ValueError: the checkpoint is of other spaces, or of another network or normaliser.
        """
        for name, mine in (("observation_space", self.observation_space), ("action_space", self.action_space)):
            theirs = _space(saved, name)
            if spaces.Spec(theirs) != spaces.Spec(mine):
                raise ValueError(
                    f"the checkpoint {saved.path} is of another {name.replace('_', ' ')}: expected {mine}, found "
                    f"{theirs}. Load it for the environment that it was trained on."
                )
        kind, found = str(jax.random.key_impl(self.state.key)), saved.metadata.get("key_impl")
        if kind != found:
            raise ValueError(f"the checkpoint {saved.path} has random keys of the kind {found!r}; expected {kind!r}.")
        self.state = tensors.from_tensors(saved, self.state, self._unravel)
        count = saved.metadata.get("responses", 0)
        self._act_count = count if type(count) is int and 0 <= count < 2**32 else 0


class Shell(NamedTuple):
    """A model that only lacks its state, and zeros in the place of its policy's parameters."""

    blank: Model
    arrays: PyTree[Any]

    def opened(self) -> Model:
        """The model, to act once `Model.act_by` has told it by what; it doesn't learn."""
        model = self.blank
        _, model._unravel = ravel_pytree(jax.tree.map(jnp.asarray, self.arrays))
        model._own_programs = Programs()
        return model


class MicrobatchedModel(Model):
    """A model that makes each minibatch's gradient in pieces, for minibatches that don't fit in memory at once.

    The result is the full minibatch's, to float tolerance.

    Args:
        microbatch_size: samples in a piece; must divide the minibatch. Of several devices, each of which has its part
            of the minibatch, the most in a piece.

    Raises:
        ValueError: it doesn't.
    """

    def __init__(self, *, policy: Policy, config: Config, key: PRNGKeyArray, microbatch_size: int) -> None:
        minibatch = config.nbatch // config.nminibatches
        if microbatch_size < 1 or minibatch % microbatch_size:
            raise ValueError(
                f"`microbatch_size` (={microbatch_size}) must divide the minibatch of `num_envs * nsteps / "
                f"nminibatches` (={config.num_envs} * {config.nsteps} / {config.nminibatches} = {minibatch})."
            )
        super().__init__(policy=policy, config=config, key=key)
        length = config.nsteps // self.slices(config.nsteps)
        if self.is_recurrent and microbatch_size % length:
            raise ValueError(
                f"`microbatch_size` (={microbatch_size}) must hold whole sequences of this recurrent policy, which are "
                f"{length} steps long: make it a multiple."
            )
        self.microbatch_size = microbatch_size

    def _piece(self, size: int, length: int | None = None) -> int:
        # of several devices each has a part of the minibatch
        most = min(size, self.microbatch_size // (length or 1))
        return next(piece for piece in range(most, 0, -1) if size % piece == 0)

    def _identity(self) -> Hashable | None:
        shared = self._trace_identity() if type(self) is MicrobatchedModel else None
        return None if shared is None else (shared, self.microbatch_size)


def load(
    path: str | Path,
    *,
    network: object = None,
    value_network: object = None,
    encoders: Mapping[str, Any] | None = None,
    model_fn: Callable[..., Model] | None = None,
    **network_kwargs: Any,
) -> Model:
    """The model in a checkpoint: a file, or the newest of a folder or of a run directory.

    Args:
        network, value_network, encoders, model_fn, network_kwargs: as they were given to `learn`, where that was an
            object and not a name or a number.

    Raises:
        ValueError: no checkpoint, a damaged or foreign one, or one that needs an argument it wasn't given.
    """
    saved = checkpoint.load(path)
    given = {"network": network, "value_network": value_network, "encoders": encoders, "model_fn": model_fn}
    given = {name: value for name, value in given.items() if value is not None}
    settings = {**saved.section("config"), **given}
    if network is not None and networks.check(network) is None:
        settings["network_kwargs"] = {}
    settings["network_kwargs"] = {**saved.section("config", "network_kwargs"), **network_kwargs}
    for name, value in {**{name: settings.get(name) for name in _OBJECTS}, **settings["network_kwargs"]}.items():
        placeholder = placeholder_in(name, value)
        if placeholder is not None:
            raise ValueError(
                f"the checkpoint {saved.path} was trained with an object ({placeholder['object']}) as `{name}`, which "
                f"no file can hold: pass it, ppo2.load(path, {name}=...)."
            )
    # Functions of frac, which only `learn` calls, and it has its own: the defaults stand in for them.
    for name in ("lr", "cliprange", "value_cliprange"):
        if is_placeholder(settings.get(name)):
            del settings[name]
    observation_space, action_space = (_space(saved, f"{kind}_space") for kind in ("observation", "action"))

    def build(key: PRNGKeyArray) -> Policy:
        return build_policy(
            observation_space,
            action_space,
            network=config.network,
            value_network=config.value_network,
            network_kwargs=config.network_kwargs,
            encoders=config.encoders,
            action_dist=config.action_dist,
            key=key,
        )

    try:
        config = Config.from_json(settings)
        if not given and not network_kwargs:
            _check_size(saved, build)
        make: Any = Model if config.model_fn is None else config.model_fn
        if not callable(make):
            raise TypeError(f"`model_fn` (={make!r}) must be a function, or None.")
        policy = build(root_key(config.seed, Purpose.INIT))
    except Exception as error:
        if given or network_kwargs:  # it may be what the caller gave
            raise
        raise ValueError(f"the checkpoint {saved.path} has settings that can't be: {error}") from error
    model: Model = make(policy=policy, config=config, key=root_key(config.seed))
    model.restore(saved)
    return model


_OBJECTS = ("network", "value_network", "encoders", "model_fn")
"""Settings that may be objects, and arguments of `load`."""


def _check_size(saved: checkpoint.Checkpoint, build: Callable[[PRNGKeyArray], Policy]) -> None:
    """Raises ValueError where the settings in a file don't make the parameters in it, before these are made: a lie
    about their size costs nothing.
    """
    try:
        shapes = eqx.filter_eval_shape(build, abstract_key())
    except jax.errors.JAXTypeError:  # a user's network, which computes with its key outside of JAX
        return
    like = eqx.filter(shapes, lambda x: hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.inexact))
    tensors.check_parameters(saved, like)


def _space(saved: checkpoint.Checkpoint, name: str) -> spaces.AnySpace:
    """Raises ValueError where a file has no such space."""
    try:
        return spaces.from_description(saved.section(name))
    except ValueError as error:
        raise ValueError(f"the checkpoint {saved.path} has no {name.replace('_', ' ')} of ours: {error}") from error


def _shapes(state: Any) -> tuple[Any, Any]:
    """Structure, and shapes of numbers (others have None)."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return jax.tree.structure(state), [x.shape if x.dtype.kind in "biuf" else None for x in arrays]


def _adam() -> optax.GradientTransformation:
    return optax.scale_by_adam(eps=ADAM_EPSILON)


ROLLOUT = Rollout(
    **dict.fromkeys(Rollout._fields, BY_STEP)  # type: ignore[arg-type]
    | {"running_returns": BY_ENV, "gamma": REPLICATED, "lam": REPLICATED}
)
"""How the environments of a rollout lie over devices."""


def _train_program(model: Model, axis: DataAxis) -> Callable[..., tuple[TrainState, UpdateStats]]:
    def train(state: TrainState, rollout: Rollout, hyper: Hyperparameters) -> tuple[TrainState, UpdateStats]:
        after, stats = (
            model.update(state, rollout, hyper) if axis == ONE_DEVICE else model.update(state, rollout, hyper, axis)
        )
        return only_finite(state, after, stats)

    into = (REPLICATED, ROLLOUT, REPLICATED)
    return jax.jit(sharding.over_blocks(train, axis, into, REPLICATED), donate_argnums=0)


def _observe_program(model: Model, axis: DataAxis) -> Callable[..., tuple[TrainState, Fault]]:
    def observe(state: TrainState, rollout: Rollout) -> tuple[TrainState, Fault]:
        return model.observed(state, rollout, axis)

    return jax.jit(sharding.over_blocks(observe, axis, (REPLICATED, ROLLOUT), REPLICATED), donate_argnums=0)


def _initial_program(model: Model) -> Callable[..., networks.State]:
    def initial_state(params: Float[Array, " P"]) -> networks.State:
        return model.policy_of(params).initial_state()

    return jax.jit(initial_state)


def _act_program(model: Model) -> Callable[..., ActResult]:
    def act_on(
        params: Float[Array, " P"],
        normaliser: Normaliser,
        obs: Array,
        key: PRNGKeyArray,
        count: Int[Array, ""],
        state: networks.State,
        episode_starts: Bool[Array, " N"] | None,
    ) -> ActResult:
        distribution, values, after = model.policy_of(params)(normaliser, obs, state, episode_starts)
        noise = model.distribution.noise(stream(key, Purpose.STEP, count), (jax.tree.leaves(obs)[0].shape[0],))
        sampled = distribution.sample(noise)
        masked = spaces.is_masked(model.observation_space)
        no_legal_action = model.distribution.none_legal(obs["action_mask"]) if masked else None
        return ActResult(sampled, distribution.mode(), values, distribution.logp(sampled), after, no_legal_action)

    return jax.jit(act_on)
