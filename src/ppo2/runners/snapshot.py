"""Snapshots: a runner's part of a checkpoint, for a resumed run to go on from exactly."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.checkpoints.checkpoint import Checkpoint, Tensors
from ppo2.checkpoints.tensors import RUNNER
from ppo2.distributed import collectives
from ppo2.numerics.storable import from_storable, to_storable

NDArray = np.ndarray[Any, Any]


class Snapshot(NamedTuple):
    """Arrays, named from `RUNNER` on, and what JSON can hold of where they belong; after so many rollouts."""

    tensors: Tensors
    facts: dict[str, Any]
    rollouts: int


def join_snapshots(parts: Sequence[Snapshot]) -> Snapshot:
    """The snapshot of all environments, from those that processes have of their own, by rank."""
    if len(parts) == 1 or any(part.facts.get("kind") == "none" for part in parts):
        return min(parts, key=lambda part: part.facts.get("kind") != "none")
    states = f"{RUNNER}states/"
    tensors = {
        name: np.concatenate([part.tensors[name] for part in parts])
        for name in parts[0].tensors
        if not name.startswith(states)
    }
    facts, first = dict(parts[0].facts), 0
    if "states" in facts:
        facts["states"] = [names for part in parts for names in part.facts["states"]]
        for part in parts:
            for name, tensor in part.tensors.items():
                if name.startswith(states):
                    env, _, rest = name.removeprefix(states).partition("/")
                    tensors[f"{states}{int(env) + first}/{rest}"] = tensor
            first += len(part.facts["states"])
    return Snapshot(tensors, facts, parts[0].rollouts)


def gather_snapshots(mine: Snapshot) -> Snapshot:
    """The snapshot of all processes' environments; only the first process's is of use."""
    facts = collectives.all_gather(mine.facts)
    tensors = collectives.gather_tensors(mine.tensors)
    return (
        join_snapshots([Snapshot(*one, mine.rollouts) for one in zip(tensors, facts, strict=False)])
        if tensors
        else mine
    )


def part_of(saved: Checkpoint, rows: slice, nenvs: int) -> Checkpoint:
    """A checkpoint of `nenvs` environments with the snapshot of some of them. What isn't of so many stays as it is."""
    if rows == slice(0, nenvs):
        return saved
    facts, tensors = dict(facts_of(saved)), dict(saved.tensors)
    steps, limit = tensors.get(f"{RUNNER}steps/0"), facts.get("limit")
    before: NDArray | None = None
    if isinstance(limit, int) and steps is not None and steps.shape == (nenvs,) and steps.dtype == np.int64:
        before = np.concatenate([[0], np.cumsum(np.where((steps >= 0) & (steps <= limit), steps, 0))])
    for name, tensor in saved.tensors.items():
        what, _, rest = name.removeprefix(RUNNER).partition("/")
        if not name.startswith(RUNNER):
            continue
        if what == "states":
            env, _, rest = rest.partition("/")
            del tensors[name]
            if env.isdecimal() and rows.start <= int(env) < rows.stop:
                tensors[f"{RUNNER}states/{int(env) - rows.start}/{rest}"] = tensor
        elif what == "actions" and before is not None:
            tensors[name] = tensor[before[rows.start] : before[rows.stop]]
        elif tensor.shape[:1] == (nenvs,):
            tensors[name] = tensor[rows]
    if isinstance(facts.get("states"), list):
        facts["states"] = facts["states"][rows]
    run = {**saved.section("run"), "runner": facts}
    return saved._replace(tensors=tensors, metadata={**saved.metadata, "run": run})


def facts_of(saved: Checkpoint) -> Mapping[str, Any]:
    """The facts of the snapshot in a checkpoint; none where it holds none."""
    facts = saved.section("run").get("runner")
    return facts if isinstance(facts, dict) else {}


def named(name: str, tree: Any) -> Tensors:
    """The arrays of a tree, numbered, as names that users' own containers give may be anything."""
    return {f"{RUNNER}{name}/{i}": to_storable(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def taken(saved: Checkpoint, name: str, like: Any, shape: tuple[int, ...] | None = None) -> Any:
    """The tree of such a name, of the structure, shapes and dtypes of `like`.

    Args:
        shape: instead of each leaf's first axis: any for -1.

    Raises:
        ValueError: it isn't there, or is other than that.
    """
    leaves, structure = jax.tree.flatten(like)
    found = [_checked(saved, f"{RUNNER}{name}/{i}", leaf, shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, found)


def states_of(saved: Checkpoint, facts: Mapping[str, Any], nenvs: int) -> list[dict[str, NDArray] | None]:
    """The state that each environment saved of itself; None where it didn't."""
    fields = facts.get("states")
    if not isinstance(fields, list) or len(fields) != nenvs:
        return [None] * nenvs
    states: list[dict[str, NDArray] | None] = []
    for env, names in enumerate(fields):
        arrays = [saved.tensors.get(f"{RUNNER}states/{env}/{i}") for i in range(len(names or ()))]
        whole = isinstance(names, list) and not any(array is None for array in arrays)
        states.append(dict(zip(names, arrays, strict=True)) if whole else None)  # type: ignore[arg-type]
    return states


def _checked(saved: Checkpoint, name: str, like: Any, shape: tuple[int, ...] | None) -> Any:
    own = to_storable(like)
    expected = own.shape if shape is None else (*shape, *own.shape[1:])
    tensor = saved.tensors.get(name)
    if tensor is None or tensor.dtype != own.dtype or not _fits(tensor.shape, expected):
        found = "nothing" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
        raise ValueError(
            f"the checkpoint {saved.path}, {name!r}: expected {own.dtype} of shape {expected}, found {found}. It is of "
            "another environment, or of another version of it: train on from its weights in another `run_dir`."
        )
    return from_storable(tensor.copy(), like)


def _fits(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(shape) == len(expected) and all(
        mine in (one, -1) or one == -1 for one, mine in zip(expected, shape, strict=True)
    )
