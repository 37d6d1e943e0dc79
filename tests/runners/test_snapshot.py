"""Snapshots of several processes."""

from pathlib import Path

import numpy as np

from ppo2.checkpoints import checkpoint
from ppo2.checkpoints.tensors import RUNNER
from ppo2.runners.snapshot import Snapshot, join_snapshots, part_of


def a_snapshot(rank: int) -> Snapshot:
    steps = np.array([2, 12 + rank], np.int64)  # steps beyond 10 aren't kept
    tensors = {"obs/0": np.full((2, 3), rank), "steps/0": steps, "actions/0": np.array([rank * 10, rank * 10 + 1])}
    tensors |= {"states/1/0": np.array([rank])}
    facts = {"kind": "host", "states": [None, ["x"]], "limit": 10, "groups": 1}
    return Snapshot({f"{RUNNER}{name}": tensor for name, tensor in tensors.items()}, facts, 4)


def test_a_snapshot_of_all_processes_is_divided_among_them_again() -> None:
    whole = join_snapshots([a_snapshot(rank) for rank in range(3)])
    saved = checkpoint.Checkpoint(Path("x"), whole.tensors, {"run": {"update": 1, "runner": whole.facts}})
    for rank in range(3):
        part, mine = part_of(saved, slice(2 * rank, 2 * rank + 2), 6), a_snapshot(rank)
        assert part.metadata["run"] == {"update": 1, "runner": mine.facts}
        assert part.tensors.keys() == mine.tensors.keys()
        for name, tensor in mine.tensors.items():
            np.testing.assert_array_equal(part.tensors[name], tensor, err_msg=name)
    twice = part_of(saved, slice(0, 4), 6)
    assert twice.tensors[f"{RUNNER}actions/0"].tolist() == [0, 1, 10, 11]
