"""The model: a policy that acts and learns."""

import contextlib
import copy
import functools
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ppo2 import networks, spaces
from ppo2.agent import files, noise
from ppo2.agent.compiled import Programs, is_hashable, program
from ppo2.agent.model_programs import ActResult, act_on_program, initial_state_program, observe_program, train_program
from ppo2.agent.placement import UNPLACED, Placement
from ppo2.agent.policy import Policy
from ppo2.algorithm import adam
from ppo2.algorithm.faults import Fault, FaultKind, unlearned
from ppo2.algorithm.gae import gae
from ppo2.algorithm.hyperparameters import Hyperparameters
from ppo2.algorithm.losses import Stats, ppo_loss
from ppo2.algorithm.minibatches import accumulate, sequences_per_env
from ppo2.algorithm.normaliser import Normaliser, relative
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Batch, Rollout
from ppo2.algorithm.train_state import Counters, TrainState, UpdateStats, copied
from ppo2.algorithm.update import update as ppo_update
from ppo2.config import Config, names
from ppo2.distributed import heartbeat
from ppo2.numerics import schedules, sharding
from ppo2.numerics.compilation import Place, computing_on, devices_here, place_of, platform, transfers_allowed
from ppo2.numerics.flat import ravelled
from ppo2.numerics.pieces import fitting_size, piece_size
from ppo2.numerics.randomness import copied_key
from ppo2.numerics.sharding import ONE_DEVICE, REPLICATED, DataAxis
from ppo2.system import runtime
from ppo2.system.garbage import collection_put_off


class ActingState(NamedTuple):
    """The part of a model's state that acting needs, where it acts."""

    params: Float[Array, " P"]
    normaliser: Normaliser
    key: PRNGKeyArray


class Model:
    """A policy that acts and learns.

    A subclass learns in its own way by overriding `advantages`, `loss`, `gradients` or `update`; all of them are pure
    and traced once. `learn(model_fn=...)` takes the subclass.

    Args:
        policy: fresh, from `build_policy`.
        config: settings of learning.
        key: root of the model's random streams.

    Attributes:
        state: parameters, normaliser, optimiser, key and counters: all that learning changes.
        act_count: calls of `step`, `predict` and `value` so far; each draws from a stream of its own.
        unravel: makes the policy's arrays from the flat parameters.
        own_programs: compiled programs that no other model may share.
        placement: the processors that it acts and learns on; see `place`.
        acts_with: "numpy" or "xla", in runners of host environments; see `ppo2.runners.acting`.
        most_parts: CPU devices that minibatches of images are divided among, where there are as many.
        unsaved: words about why the last checkpoint of its training isn't on the disk; "" where all is well.
        stop_reason: the reason for which a callback, or `update_fn`, ended its training; "" otherwise.
        frozen: beginnings and ends of those parts of the flat parameters that learning leaves as they are.
    """

    loss_names = Stats._fields

    @transfers_allowed
    def __init__(self, *, policy: Policy, config: Config, key: PRNGKeyArray) -> None:
        self.config = config
        self.observation_space = policy.observation_space.space
        self.action_space = policy.action_space.space
        self.distribution = policy.distribution
        self.encoding = policy.encoding
        arrays, self._static = eqx.partition(policy, eqx.is_inexact_array)
        params, self.unravel = ravelled(arrays)
        self._shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(arrays))
        state = TrainState(
            params=params,
            normaliser=Normaliser.start(
                self.observation_space,
                normalize_obs=config.normalize_obs,
                normalize_rewards=config.normalize_rewards,
                encoding=policy.encoding,
            ),
            opt_state=adam.start(params),
            key=copied_key(key),  # training donates it
            counters=Counters.zero(),
        )
        self.state: TrainState = jax.device_put(state)
        self._recurrent_shape = jax.eval_shape(policy.initial_state)
        self._convolves = networks.has_convolutions(policy)
        self.act_count = 0
        self.own_programs: Programs = OrderedDict()
        self.unsaved = self.stop_reason = ""
        self.frozen: tuple[tuple[int, int], ...] = ()
        self.placement = UNPLACED
        self.acts_with = "xla"
        self.most_parts = len(devices_here())
        self._acting: tuple[Any, ActingState] | None = None

    # --- devices --------------------------------------------------------------------------------------------------

    def place(self, placement: Placement) -> None:
        """Has the model act and learn there from now on."""
        self.placement = placement
        place = _place_named(placement.learn)
        if place is not None:
            self.state = jax.device_put(self.state, place.here)

    def placed(self, placement: Placement) -> "Model":
        """A model of the same state that acts and learns there, while this one stays as it is."""
        twin = copy.copy(self)
        twin.place(placement)
        return twin

    def acting(self) -> contextlib.AbstractContextManager[None]:
        """Context in which this thread computes where the model acts."""
        return computing_on(_place_named(self.placement.act))

    def learning(self) -> contextlib.AbstractContextManager[None]:
        """Context in which this thread computes where the model learns."""
        return computing_on(_place_named(self.placement.learn))

    def acting_state(self) -> ActingState:
        """The state for acting, where the model acts: a copy if it learns elsewhere, made once after each update."""
        state, (act, learn) = self.state, self.placement
        if act == learn:
            return ActingState(state.params, state.normaliser, state.key)
        if self._acting is None or self._acting[0] is not state:
            place, needed = place_of(act), ActingState(state.params, state.normaliser, state.key)
            assert place is not None
            self._acting = state, jax.device_put(needed, place.here)
        return self._acting[1]

    # --- acting ---------------------------------------------------------------------------------------------------

    def policy_of(self, params: Float[Array, " P"]) -> Policy:
        """The policy with the given flat parameters; pure."""
        return self.policy_with(self.unravel(params))

    def policy_with(self, arrays: PyTree[Array]) -> Policy:
        """The policy with the arrays that `unravel` makes; pure."""
        policy: Policy = eqx.combine(arrays, self._static)
        return policy

    @property
    def policy(self) -> Policy:
        """The policy as it stands."""
        return self.policy_of(self.state.params)

    @transfers_allowed
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
            ValueError: see `ppo2.spaces.observation`; an observation that is NaN or infinite; or a state that isn't of
                this policy.
        """
        result, single = self._act_on(obs, S, M)
        values, logp = np.asarray(result.values), np.asarray(result.logp)
        actions = self._actions(result.sampled, single)
        states = jax.tree.map(np.asarray, result.recurrent_state)
        return actions, values[0] if single else values, states, -logp[0] if single else -logp

    @transfers_allowed
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
            states: as `S` of `step`.
            M: as for `step`.
            deterministic: False samples, from the same stream as `step`.

        Raises:
            ValueError: as for `step`.
        """
        result, single = self._act_on(obs, states, M)
        after = jax.tree.map(np.asarray, result.recurrent_state)
        return self._actions(result.mode if deterministic else result.sampled, single), after

    @transfers_allowed
    def value(self, obs: Any, S: Any = None, M: Any = None) -> np.ndarray[Any, Any]:
        """V of one observation, or of each of a batch. Arguments and errors as for `step`."""
        result, single = self._act_on(obs, S, M)
        values = np.asarray(result.values)
        return np.asarray(values[0]) if single else values

    @property
    def is_recurrent(self) -> bool:
        """True if the policy has a recurrent state."""
        return self._recurrent_shape is not None

    @transfers_allowed
    def initial_state(self, nenvs: int) -> networks.State:
        """The state, (nenvs, ...), that recurrent policies begin episodes with; None for others.

        Raises:
            ValueError: `nenvs` below 1.
        """
        if nenvs < 1:
            raise ValueError(f"`nenvs` (={nenvs}) must be at least 1.")
        if not self.is_recurrent:
            return None
        with self.acting():  # it may be learned
            one = jax.device_get(program(self, initial_state_program)(self.acting_state().params))
        initial: networks.State = jax.tree.map(lambda x: np.stack([x] * nenvs), one)
        return initial

    def sequences_per_env(self, nsteps: int, num_envs: int) -> int:
        """Number of sequences that each environment's steps are cut into, to learn from."""
        config = self.config
        if not self.is_recurrent:
            return 1
        return sequences_per_env(num_envs // config.shards, nsteps, config.nminibatches)

    def _act_on(self, obs: Any, state: Any, episode_starts: Any) -> tuple[ActResult, bool]:
        batch, single = spaces.observation(self.observation_space, obs)
        count = len(jax.tree.leaves(batch)[0])
        if not count:
            raise ValueError("`obs` holds no observation: expected at least one.")
        bad = spaces.find_not_finite(self.observation_space, batch)
        if bad is not None:
            which = "" if single else f"; it is number {bad.row} of {count}"
            raise ValueError(
                f"`obs`{bad.part} holds {bad.number}: an observation is NaN or infinite{which}. Fix the environment, "
                "or what measures it; no action follows from it."
            )
        recurrent_state = self._checked_state(state, episode_starts, count)
        result = self.act_on(batch, self.acting_state().key, self.act_count, *recurrent_state)
        self.act_count += 1
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
        with self.acting():
            act, now = program(self, act_on_program), self.acting_state()
            return act(
                now.params,
                now.normaliser,
                relative(now.normaliser.origins(), obs),
                key,
                np.uint32(count),
                state,
                episode_starts,
            )

    def _actions(self, actions: PyTree[Array], single: bool) -> Any:
        batch = self.distribution.to_environment(jax.device_get(actions))
        return spaces.separate(self.action_space, batch)[0] if single else batch

    def acting_noise(self, keys: PRNGKeyArray, steps: int) -> Float[Array, "T N p"] | Int[Array, " T"]:
        """The noise of a rollout's actions, from a key for each environment, for `step_noise` row by row; pure."""
        return noise.rollout_noise(self.distribution, keys, steps)

    def step_noise(self, keys: PRNGKeyArray, now: Float[Array, "N p"] | Int[Array, ""]) -> Float[Array, "N p"]:
        """The noise of one step, given its row of `acting_noise` and the same keys; pure."""
        return noise.step_noise(self.distribution, keys, now)

    # --- learning -------------------------------------------------------------------------------------------------

    @transfers_allowed
    @collection_put_off()  # the first call makes a program
    def train(
        self, rollout: Rollout, *, lr: float, cliprange: float, value_cliprange: float | None = None
    ) -> UpdateStats:
        """One update: all epochs and minibatches, in one compiled program.

        An update whose data, loss or gradients are not finite leaves the state as it was: see `UpdateStats.fault`.

        Args:
            rollout: from a runner.
            lr: learning rate of this update.
            cliprange: clip range of this update.
            value_cliprange: for this update; None: the value of `config.value_cliprange` at the start of training.
        """
        hyper = self.hyperparameters(lr=lr, cliprange=cliprange, value_cliprange=value_cliprange)
        with self.learning():
            axis = self.learning_axis(rollout)
            specs = (REPLICATED, REPLICATED if axis.by_sample else ROLLOUT_SPECS, REPLICATED)
            train = program(self, train_program, axis)
            heartbeat.at_collective(axis)
            after = train(*sharding.to_global((self.state, rollout, hyper), axis, specs))
            learned, packed = sharding.to_local(after, axis, REPLICATED)
            stats: UpdateStats = packed.unpacked().on_host()
            self.state = learned if stats.fault == FaultKind.NONE else unlearned(self.state, learned)
        runtime.updated()
        return stats

    def learning_axis(self, rollout: Rollout) -> DataAxis:
        """The devices that learn together from a rollout, or from one of these shapes: one of each process or, where a
        gradient takes long, all CPU devices.
        """
        steps, envs = rollout.valid.shape
        rows = jax.tree.leaves(rollout.recurrent_state)[0].shape[0] if self.is_recurrent else steps
        return self._axis_for(steps, envs, rows, minibatches=self.config.nminibatches)

    def completing_axis(self, steps: int, envs: int) -> DataAxis:
        """The CPU devices of this process that complete a rollout together, each with all of it: as for learning."""
        axis = self._axis_for(steps, envs)
        return axis if axis.by_sample else ONE_DEVICE

    @property
    def minibatch_parts(self) -> int:
        """The CPU devices that share each of its minibatches, and have the whole rollout; 1: none is divided."""
        steps, envs = self.config.nsteps, self.config.num_envs
        axis = self._axis_for(steps, envs, minibatches=self.config.nminibatches)
        return axis.devices if axis.by_sample else 1

    def _axis_for(self, steps: int, envs: int, rows: int | None = None, *, minibatches: int = 1) -> DataAxis:
        """See `learning_axis`; `rows` are those of an environment: sequences of a recurrent policy, else steps. None:
        as many as the config gives.
        """
        if rows is None:
            rows = self.sequences_per_env(steps, envs) if self.is_recurrent else steps
        axis = sharding.across_processes()
        if not self._convolves or type(self) is not Model or axis != ONE_DEVICE:
            return axis  # whatever a subclass computes of a minibatch, it may need the whole
        return sharding.over_samples(rows * envs // minibatches, steps // rows, most=self.most_parts)

    @property
    def lacks_devices(self) -> bool:
        """True if there are fewer CPU devices here than its minibatches were divided among."""
        divides = self._convolves and type(self) is Model and platform() == "cpu"
        return divides and self.most_parts > len(devices_here())

    def hyperparameters(self, *, lr: float, cliprange: float, value_cliprange: float | None = None) -> Hyperparameters:
        """The numbers for one update; see `train`."""
        config = self.config
        if config.value_cliprange is None:
            if value_cliprange is not None:
                raise ValueError("`value_cliprange` was None when the model was made, which switches it off for good.")
        elif value_cliprange is None:
            same = config.value_cliprange == "same"
            value_cliprange = cliprange if same else schedules.parse(config.value_cliprange, "value_cliprange")(1.0)
        scheduled = {"lr": lr, "cliprange": cliprange, "value_cliprange": value_cliprange}
        numbers = {name: scheduled.get(name, getattr(config, name)) for name in names(traced="update")}
        return Hyperparameters(
            **{name: None if number is None else np.float32(number) for name, number in numbers.items()}
        )

    def advantages(self, normaliser: Normaliser, rollout: Rollout) -> Float[Array, "T N"]:
        """The advantage of each step of a rollout, not normalised. Override to estimate it in another way."""
        terminated = rollout.terminated
        if not self.config.bootstrap_truncated:
            terminated = terminated | rollout.truncated
        return gae(
            normaliser.scale_rewards(rollout.rewards),
            rollout.values,
            rollout.next_values,
            terminated,
            rollout.truncated,
            rollout.valid,
            gamma=rollout.gamma,
            lam=rollout.lam,
        )

    def loss(
        self, policy: Policy, normaliser: Normaliser, batch: Batch, hyper: Hyperparameters
    ) -> tuple[Float[Array, ""], Stats]:
        """The loss of one minibatch, whose advantages are normalised already. Override to change the objective."""
        new = policy.evaluate(normaliser, batch.obs, batch.actions, batch.recurrent_state, batch.episode_starts)
        return ppo_loss(new, batch, hyper)

    def gradients(
        self, params: Float[Array, " P"], normaliser: Normaliser, batch: Batch, hyper: Hyperparameters
    ) -> tuple[Float[Array, " P"], Stats]:
        """Gradient of the loss of one minibatch. Override to make it in another way."""

        def loss_of(params: Float[Array, " P"], batch: Batch) -> tuple[Float[Array, ""], Stats]:
            return self.loss(self.policy_of(params), normaliser, batch, hyper)

        gradient = functools.partial(jax.grad(loss_of, has_aux=True), params)
        rows, *length = batch.weights.shape
        size = self.piece_size(rows, *length)
        if size == rows:
            size = fitting_size(gradient, batch, length=math.prod(length))
        found: tuple[Float[Array, " P"], Stats] = gradient(batch) if size == rows else accumulate(gradient, batch, size)
        return found

    def piece_size(self, size: int, length: int | None = None) -> int:
        """Samples of a minibatch, or sequences of `length` steps, whose gradient is made at once.

        Where these are all, and wouldn't fit in memory, fewer are: see `fitting_size`.
        """
        return piece_size(size) if length is None else size

    update = ppo_update  # override to learn in another way

    @transfers_allowed
    @collection_put_off()
    def observe(self, rollout: Rollout, axis: DataAxis | None = None) -> Fault:
        """Counts a rollout into the normaliser's statistics without learning from it, unless it has a fault.

        Args:
            axis: the devices to sum over; None: one of each process.
        """
        axis = sharding.across_processes() if axis is None else axis
        fault: Fault
        with self.learning():
            observe = program(self, observe_program, axis)
            heartbeat.at_collective(axis)
            after = observe(*sharding.to_global((self.state, rollout), axis, (REPLICATED, ROLLOUT_SPECS)))
            self.state, fault = sharding.to_local(after, axis, REPLICATED)
        return fault

    @transfers_allowed
    def restart(self, key: PRNGKeyArray) -> None:
        """Keeps what was learned, with other random streams and counters from 0."""
        with self.learning():
            self.state = self.state._replace(key=copied_key(key), counters=jax.device_put(Counters.zero()))
        self.act_count = 0

    # --- programs, copies, files ----------------------------------------------------------------------------------

    def trace_identity(self) -> Hashable | None:
        """A key equal to that of all models that compile to the same programs; None: only this very model does."""
        return self.identity_as(Model)

    def identity_as(self, kind: type["Model"]) -> Hashable | None:
        """`trace_identity` of models of this very class; None for other classes, and where the network has no hash."""
        leaves, structure = jax.tree.flatten(self._static)
        identity = (type(self), tuple(leaves), structure, self._shapes, self.config.trace)
        patched = any(hasattr(type(self), name) for name in vars(self))  # a method replaced on the instance
        return identity if type(self) is kind and not patched and is_hashable(identity) else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Model":
        """A model with a state of its own, which stays as it is while this one trains on."""
        twin = copy.copy(self)
        with self.learning():
            twin.state = copied(self.state, jnp.array)
        return twin

    @transfers_allowed
    def save(
        self,
        path: str | Path,
        *,
        run: Mapping[str, Any] | None = None,
        runner: Mapping[str, np.ndarray[Any, Any]] | None = None,
    ) -> Path:
        """Writes the whole state, the settings and the spaces to one file (see `ppo2.checkpoints`).

        Args:
            path: the file; by convention it ends in `.safetensors`.
            run: the progress of training, for `learn` to go on from.
            runner: arrays of the runner, for the same.

        Raises:
            OSError: it can't be written; what was there before is untouched.
        """
        return files.writer(self, run=run, runner=runner)(path)


def _shapes(state: Any) -> tuple[Any, Any]:
    """Structure, and shapes of numbers (others have None)."""
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return jax.tree.structure(state), [x.shape if x.dtype.kind in "biuf" else None for x in arrays]


def _place_named(kind: str | None) -> Place | None:
    """The place of a kind in a `Placement`, whose None leaves the choice to the thread that computes."""
    return None if kind is None else place_of(kind)
