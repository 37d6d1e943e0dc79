"""Acting between two steps of host environments: with NumPy where there is little to compute, else with XLA.

A call of a compiled program takes 20 to 50 microseconds whatever it computes, the calls of NumPy that a small network
needs 9. So the work decides, and nothing that is measured: which of the two acts is saved with a run, as the last bits
of actions depend on it.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ppo2 import networks, spaces
from ppo2.agent.compiled import program
from ppo2.agent.model import ActingState, Model
from ppo2.numerics.compilation import platform
from ppo2.numerics.numpy_calls import UntranslatableError
from ppo2.numerics.numpy_function import NumpyFunction
from ppo2.numerics.traced import Traced
from ppo2.runners.host_program import act_program, weights_program

NUMPY, XLA = "numpy", "xla"

MOST_CALLS = 64
"""NumPy's calls, for all observations of a step at once, up to which it acts. On two cores of a Xeon (one thread,
nothing else in between) it took 9 microseconds for the 14 calls of an MLP, 33 for the 55 of an LSTM, 65 for the 109 of
one with layer norms; XLA took 30, 68 and 76, and between two steps of an environment 20 more."""
MOST_PRODUCTS = 2**20
"""Multiplications of the matrix products in a step up to which NumPy acts, in one thread. An MLP of 2 x 64 has 4,500
for each observation: for 1, 8, 64 and 256 NumPy took 9, 10, 19 and 49 microseconds, XLA 30, 35, 44 and 66."""
MOST_NUMBERS = 2**16
"""Numbers that the other calls go through up to which NumPy acts; they are up to 70,000 in the examples above."""

Act = Callable[[Any, Any, networks.State, Any], tuple[Any, networks.State]]
"""Acting: from observations, noise, a recurrent policy's states and episode starts to actions and the next states."""


def choose(model: Model, num_envs: int, *, saved: Mapping[str, Any] | None = None) -> str:
    """NumPy or XLA, by the rule or, for a run that goes on, as before.

    Args:
        num_envs: number of environments that this process steps.
        saved: the settings of the run that goes on, or the metadata of its checkpoint. Runs of versions that acted
            with nothing but XLA don't say.
    """
    if saved is not None and saved.get("acts_with") != NUMPY:
        return XLA
    with model.acting():
        if platform() != "cpu":
            return XLA
        try:
            work = _in_numpy(model, num_envs)
        except UntranslatableError:
            return XLA
    is_little = work.count <= MOST_CALLS and work.products <= MOST_PRODUCTS and work.numbers <= MOST_NUMBERS
    return NUMPY if saved is not None or is_little else XLA


def changed(saved: Mapping[str, Any], acts_with: str) -> str:
    """The line that says that a run goes on with XLA, which acted with NumPy; "" where it doesn't."""
    if saved.get("acts_with") != NUMPY or acts_with == NUMPY:
        return ""
    return "this run acted with NumPy, which can't do it here: it acts with XLA, and its last bits may differ"


class Actor:
    """Acts for a group of environments, with the parameters of one rollout after the other.

    Args:
        num_envs: size of the group.

    Attributes:
        acts_with: see `choose`.
    """

    def __init__(self, model: Model, num_envs: int) -> None:
        self.acts_with, self._model = model.acts_with, model
        self._numpy: NumpyFunction | None = None
        if model.acts_with == NUMPY:
            with contextlib.suppress(UntranslatableError):  # for a group of this very size
                self._numpy = _in_numpy(model, num_envs)

    def begin(self, state: ActingState) -> Act:
        """The function that acts with these parameters."""
        if self._numpy is None:
            weights = program(self._model, weights_program)(state.params)
            return functools.partial(program(self._model, act_program), weights, state.normaliser)
        self._numpy.fix((state.params, state.normaliser))
        return self._numpy


def _in_numpy(model: Model, num_envs: int) -> NumpyFunction:
    """`act_program` for so many environments: of parameters and normaliser, and of what changes at each step.

    Raises:
        UntranslatableError: NumPy can't do it.
    """
    state = model.acting_state()
    obs = spaces.zeros(model.observation_space, (num_envs,))
    noise = np.zeros((num_envs, model.distribution.noise_size), np.float32)
    starts = np.zeros(num_envs, bool) if model.is_recurrent else None
    example = ((state.params, state.normaliser), (obs, noise, model.initial_state(num_envs), starts))
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda x: x, example))
    return NumpyFunction(program(model, _traced, structure, tuple(leaves)))


def _traced(model: Model, structure: Any, leaves: tuple[Any, ...]) -> Traced:
    weights, act, (fixed, varying) = weights_program(model), act_program(model), jax.tree.unflatten(structure, leaves)
    return Traced(lambda fixed, varying: act(weights(fixed[0]), *fixed[1:], *varying), fixed, varying)
