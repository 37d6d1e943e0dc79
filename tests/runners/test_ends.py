"""Episodes as programs hand them over, against all of them."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from ppo2.numerics.compilation import compiled
from ppo2.numerics.sharding import ONE_DEVICE, DataAxis
from ppo2.runners import ends
from ppo2.runners.ends import Ends, UpdateEpisodes, chosen_slots, handed_over, nth_true, to_ended

pytestmark = pytest.mark.usefixtures("quickly_compiled")

STEPS, ENVS = 40, 16


def some_ends(share: float, seed: int = 0) -> Ends:
    """Ends at random, whose returns and numbers tell where they were."""
    ended = np.random.default_rng(seed).random((STEPS, ENVS)) < share
    where = np.float32(np.arange(STEPS * ENVS).reshape(STEPS, ENVS))
    return Ends(where, np.int32(np.where(ended, 7, 0)), np.stack([-where, 2 * where], -1))


def handed(some: Ends, most: int | None) -> UpdateEpisodes:
    program = compiled(functools.partial(handed_over, most=most, axis=ONE_DEVICE))
    result: UpdateEpisodes = jax.tree.map(np.asarray, program(some))
    return result


def ended(updates: list[UpdateEpisodes], most: int | None) -> Any:
    whole = jax.tree.map(lambda *x: np.stack(x), *updates)
    return to_ended(
        whole,
        most,
        steps=STEPS,
        nenvs=ENVS,
        seconds=np.arange(STEPS * len(updates)) / 2,
        info_keys=("a", "b"),
        devices=1,
    )


@pytest.mark.parametrize("most", [None, 20, 5, 0])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 1.0])
def test_rows_and_the_last_hundred_are_those_of_all(
    most: int | None, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a plain loop over all episodes of two updates; chosen in the program, and afterwards."""
    both = [some_ends(share, seed) for seed in (0, 1)]
    each = [np.flatnonzero(one.lengths) for one in both]
    every = [1 if not most else max(1, -(-len(one) // most)) for one in each]
    kept = (
        [] if most == 0 else [one[::k] + u * STEPS * ENVS for u, (one, k) in enumerate(zip(each, every, strict=True))]
    )
    everything = np.concatenate([each[0], each[1] + STEPS * ENVS])
    for pays in (0.0, np.inf) if most else (0.0,):
        monkeypatch.setattr(ends, "CHOICE_PAYS", pays)
        found = ended([handed(one, most) for one in both], most)
        assert found.count == len(everything)
        rows = np.concatenate([*kept, np.zeros(0, int)])
        np.testing.assert_array_equal(found.steps * ENVS + found.rows.env, rows)
        np.testing.assert_array_equal(found.rows.r, rows % (STEPS * ENVS))
        np.testing.assert_array_equal(found.rows.t, rows // ENVS / 2)
        assert set(found.rows.l.tolist()) <= {7}
        if len(rows):
            np.testing.assert_array_equal(found.rows.infos["a"], -found.rows.r)
            np.testing.assert_array_equal(found.rows.infos["b"], 2 * found.rows.r)
        last = found.rows if found.last is None else found.last
        np.testing.assert_array_equal(last.r[-100:], everything[-100:] % (STEPS * ENVS))


def test_flags_are_found_by_their_rank() -> None:
    """32 to a block: in the first, at both sides of a border, in the last one that isn't full."""
    flags = np.zeros(100, bool)
    true = [0, 3, 31, 32, 64, 95, 96, 99]
    flags[true] = True
    assert nth_true(flags, np.arange(8, dtype=np.int32)).tolist() == true


def test_few_timesteps_are_handed_over_whole() -> None:
    """Choosing 2,048 and 100 of them pays from 16 times as many on, and is needed where processes have parts."""
    assert chosen_slots(2148 * 16, 2048, ONE_DEVICE) is None
    assert chosen_slots(2148 * 16 + 1, 2048, ONE_DEVICE) == 2048
    assert chosen_slots(10**9, None, ONE_DEVICE) is None
    assert chosen_slots(2049, 2048, DataAxis(2, 2)) == 2048
    assert chosen_slots(2048, 2048, DataAxis(2, 2)) is None
