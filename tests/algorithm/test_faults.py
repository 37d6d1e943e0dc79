"""Faults of several blocks of environments, told as one."""

from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp

from ppo2.algorithm.faults import Fault, FaultKind, _across, is_finite


def across(mine: tuple[FaultKind, int], theirs: tuple[FaultKind, int], nenvs: int = 3) -> tuple[int, int]:
    """The fault that the second of two blocks of three environments finds, given its own and the first block's."""

    def gather(own: Any) -> Any:
        return tuple(jnp.stack([jnp.asarray(other), here]) for other, here in zip(theirs, own, strict=True))

    split: Any = SimpleNamespace(devices=2, index=1, gather=gather)
    found = _across(split, Fault(jnp.int32(mine[0]), jnp.int32(mine[1])), nenvs)
    return int(found.kind), int(found.step)


def test_the_step_to_blame_counts_the_environments_of_all_blocks() -> None:
    """Step 2, environment 1 of the second block, which is number 4 of six: 2 * 6 + 4 = 16."""
    assert across((FaultKind.REWARD_NOT_FINITE, 2 * 3 + 1), (FaultKind.NONE, 0)) == (FaultKind.REWARD_NOT_FINITE, 16)


def test_the_fault_that_causes_the_others_is_reported() -> None:
    """The loss is the same everywhere; only one block knows of the action."""
    action, loss = FaultKind.ACTION_NOT_FINITE, FaultKind.LOSS_OR_GRADIENT_NOT_FINITE
    assert across((action, 0), (loss, 0)) == (action, 3)
    assert across((loss, 0), (action, 5)) == (action, 5)
    assert across((FaultKind.NONE, 0), (FaultKind.NONE, 0))[0] == FaultKind.NONE


def test_arrays_without_numbers_are_finite() -> None:
    """The statistics of a part of observations that is empty."""
    assert is_finite({"empty": jnp.zeros((0, 2)), "numbers": jnp.ones(2)})
    assert not is_finite({"empty": jnp.zeros((0, 2)), "numbers": jnp.array([1, jnp.inf])})
