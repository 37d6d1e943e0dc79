"""The state that learning changes, and the figures of an update."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ppo2.algorithm.adam import AdamState
from ppo2.algorithm.normaliser import Normaliser
from ppo2.numerics.randomness import copied_key


class Counters(NamedTuple):
    updates: Int[Array, ""]
    gradient_steps: Int[Array, ""]
    skipped_updates: Int[Array, ""]

    @classmethod
    def zero(cls) -> "Counters":
        zeros: Any = [np.zeros((), np.int32) for _ in cls._fields]
        return cls(*zeros)


class TrainState(NamedTuple):
    """Everything that learning changes. Parameters and Adam's moments are one flat vector each: one update of it, one
    norm and, over several devices, one mean.
    """

    params: Float[Array, " P"]
    normaliser: Normaliser
    opt_state: AdamState
    key: PRNGKeyArray
    counters: Counters


def copied(state: TrainState, copy: Callable[[Any], Any]) -> TrainState:
    """The state in memory of its own, which stays while training goes on and donates its arrays."""
    words = state._replace(key=jax.random.key_data(state.key))
    twin: TrainState = jax.tree.map(copy, words)
    return twin._replace(key=copied_key(state.key))


def in_types_of(before: TrainState, after: TrainState) -> TrainState:
    """The state after an update in the types of the one before: a subclass may make others, of which the next update
    would need another program; pure.
    """

    def typed(new: Any, old: Any) -> Any:
        return new if jnp.issubdtype(old.dtype, jax.dtypes.prng_key) else jnp.asarray(new, old.dtype)

    same: TrainState = jax.tree.map(typed, after, before)
    return same


UNDEFINED = 2.0
"""Explained variance, inside compiled programs, of returns that are all equal; others are at most 1."""


class UpdateStats(NamedTuple):
    """The figures of one update: means over its minibatches, then figures of the whole batch. `Model.train` gives them
    as arrays of NumPy.

    `fault` is a `FaultKind`, `fault_index` the flat (T, N) index of the step to blame. `eprewmean` and
    `eplenmean`, over the last 100 episodes, `episodes`, how many ended so far, and `infos`, the means of numbers of
    `info` at the ends of the last 100 (`info_keys`), are filled in by `learn` for its `update_fn`; so are these last
    100 themselves, the oldest first: `last`, each with `r`, `l`, `t`, `env` and `infos`; and `evaluation`, the result
    of the evaluation that was made after this very update, None where none was.
    """

    policy_loss: Float[Array, ""]
    value_loss: Float[Array, ""]
    policy_entropy: Float[Array, ""]
    approxkl: Float[Array, ""]
    clipfrac: Float[Array, ""]
    grad_norm: Float[Array, ""]
    explained_variance: Float[Array, ""]
    gradient_steps: Int[Array, ""]
    fault: Int[Array, ""]
    fault_index: Int[Array, ""]
    eprewmean: float | Float[Array, ""] = math.nan
    eplenmean: float | Float[Array, ""] = math.nan
    episodes: int | Int[Array, ""] = 0
    infos: Mapping[str, float] = {}
    last: Sequence[Any] = ()
    evaluation: Any = None

    @classmethod
    def blank(cls) -> Self:
        """All 0, in the dtypes that figures have on the device, as programs give them: see `in_program`."""
        whole = ("gradient_steps", "fault", "fault_index")
        names = [name for name in cls._fields if name not in ("infos", "last", "evaluation")]
        zeros: dict[str, Any] = {name: np.zeros((), np.int32 if name in whole else np.float32) for name in names}
        return cls(**zeros).in_program()

    def in_program(self) -> Self:
        """The figures as a compiled program gives them: without NaN for a figure that has no value, by which
        `jax_debug_nans` would end sound training; and without those that `learn` fills in.
        """
        variance = jnp.where(jnp.isnan(self.explained_variance), UNDEFINED, self.explained_variance)
        nothing: Any = None
        return self._replace(explained_variance=variance, eprewmean=nothing, eplenmean=nothing, episodes=nothing)

    def on_host(self) -> Self:
        """The figures of `in_program`, for users; waits for the program."""
        variance: Any = np.asarray(self.explained_variance)
        if variance == UNDEFINED:
            variance = np.array(np.nan, np.float32)
        return self._replace(explained_variance=variance, eprewmean=math.nan, eplenmean=math.nan, episodes=0)
