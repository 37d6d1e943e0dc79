"""Snapshots: a runner's part of a checkpoint, for a resumed run to go on from exactly."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.checkpoints.checkpoint import Checkpoint, Tensors
from ppo2.checkpoints.tensors import RUNNER
from ppo2.distributed import collectives
from ppo2.numerics.storable import from_storable, to_storable
from ppo2.runners.action_log import kept_steps
from ppo2.runners.episodes import NDArray

STATES, ACTIONS = f"{RUNNER}states/", f"{RUNNER}actions/"


class Snapshot(NamedTuple):
    """A runner's arrays, whose names begin with `RUNNER`, and facts about them for JSON, after so many rollouts."""

    tensors: Tensors
    facts: dict[str, Any]
    rollouts: int


LAYOUT_WORDS = {
    "groups": "this run acted for {} groups of environments, and now for {}",
    "actors": "this run's environments were held by {} actors, and now by {}",
    "devices": "this run shared its work among {} devices, and now among {}",
}


def layout_changes(facts: Mapping[str, Any], layout: Mapping[str, int]) -> list[str]:
    """A line for each way in which the environments are divided otherwise than they were."""
    pairs = {name: (facts.get(name, 1), layout.get(name, 1)) for name in LAYOUT_WORDS}
    return [
        f"{LAYOUT_WORDS[name].format(before, now)}: it continues to float tolerance, not bit for bit"
        for name, (before, now) in pairs.items()
        if before != now
    ]


def join_snapshots(parts: Sequence[Snapshot]) -> Snapshot:
    """The snapshot of all environments, from those that processes or actors have of their own, in order."""
    for part in parts:
        if len(parts) == 1 or part.facts.get("kind") == "none":
            return part
    tensors = {
        name: np.concatenate([part.tensors[name] for part in parts])
        for name in parts[0].tensors
        if not name.startswith(STATES)
    }
    facts, first = dict(parts[0].facts), 0
    if "states" in facts:
        facts["states"] = [names for part in parts for names in part.facts["states"]]
        for part in parts:
            nenvs = len(part.facts["states"])
            tensors |= _env_states(part.tensors, range(nenvs), first)
            first += nenvs
    return Snapshot(tensors, facts, parts[0].rollouts)


def _env_states(tensors: Tensors, envs: range, first: int) -> Tensors:
    """The states that some environments saved themselves, under the numbers from `first` on."""
    found = {}
    for name, tensor in tensors.items():
        env, _, rest = name.removeprefix(STATES).partition("/")
        if name.startswith(STATES) and env.isdecimal() and int(env) in envs:
            found[f"{STATES}{int(env) - envs.start + first}/{rest}"] = tensor
    return found


def gather_snapshots(mine: Snapshot) -> Snapshot:
    """The snapshot of all processes' environments; only the first process's is of use."""
    facts, tensors = collectives.all_gather(mine.facts), collectives.gather_tensors(mine.tensors)
    parts = [Snapshot(*part, mine.rollouts) for part in zip(tensors, facts, strict=False)]
    return join_snapshots(parts) if parts else mine


def part_of(saved: Checkpoint, rows: slice, nenvs: int) -> Checkpoint:
    """The snapshot of some of a checkpoint's `nenvs` environments. What isn't of so many stays as it is."""
    if rows == slice(0, nenvs):
        return saved
    facts, snapshot = dict(facts_of(saved)), snapshot_tensors(saved)
    steps, limit = snapshot.get(f"{RUNNER}steps/0"), facts.get("limit")
    ends: NDArray | None = None  # of each environment's actions
    if isinstance(limit, int) and steps is not None and steps.shape == (nenvs,) and steps.dtype == np.int64:
        ends = np.cumsum([0, *kept_steps(steps, limit)])

    def own(name: str, tensor: NDArray) -> NDArray:
        if name.startswith(ACTIONS) and ends is not None:
            return tensor[ends[rows.start] : ends[rows.stop]]
        return tensor[rows] if tensor.shape[:1] == (nenvs,) else tensor

    part = {name: own(name, tensor) for name, tensor in snapshot.items() if not name.startswith(STATES)}
    part |= _env_states(snapshot, range(rows.start, rows.stop), 0)
    if isinstance(facts.get("states"), list):
        facts["states"] = facts["states"][rows]
    run = {**saved.section("run"), "runner": facts}
    return saved._replace(tensors=part, metadata={"run": run})


def snapshot_tensors(saved: Checkpoint) -> Tensors:
    """The arrays of the snapshot in a checkpoint."""
    return {name: tensor for name, tensor in saved.tensors.items() if name.startswith(RUNNER)}


def facts_of(saved: Checkpoint) -> Mapping[str, Any]:
    """The facts of the snapshot in a checkpoint; none where it holds none."""
    facts = saved.section("run").get("runner")
    return facts if isinstance(facts, dict) else {}


def named(name: str, tree: Any) -> Tensors:
    """The arrays of a tree, numbered, as names that users' own containers give may be anything."""
    return {f"{RUNNER}{name}/{i}": to_storable(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def taken(saved: Checkpoint, name: str, like: Any, *, any_length: bool = False) -> Any:
    """The tree of such a name, of the structure, shapes and dtypes of `like`; or of any length of the first axis.

    Raises:
        ValueError: it isn't there, or differs from that.
    """
    leaves, structure = jax.tree.flatten(like)
    found = [_checked(saved, f"{RUNNER}{name}/{i}", leaf, any_length) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, found)


def states_of(saved: Checkpoint, facts: Mapping[str, Any], nenvs: int) -> list[dict[str, NDArray] | None]:
    """The state that each environment saved itself; None where it didn't."""
    fields = facts.get("states")
    if not isinstance(fields, list) or len(fields) != nenvs:
        return [None] * nenvs

    def state(env: int, names: Any) -> dict[str, NDArray] | None:
        keys = [f"{STATES}{env}/{i}" for i in range(len(names))] if isinstance(names, list) else [""]
        whole = all(key in saved.tensors for key in keys)
        return {name: saved.tensors[key] for name, key in zip(names, keys, strict=True)} if whole else None

    return [state(env, names) for env, names in enumerate(fields)]


def _checked(saved: Checkpoint, name: str, like: Any, any_length: bool) -> Any:
    """The tensor of this name, checked and converted to the type of `like`; see `taken`."""
    own, tensor = to_storable(like), saved.tensors.get(name)
    expected = (-1, *own.shape[1:]) if any_length else own.shape
    shape = None if tensor is None else (*expected[:any_length], *tensor.shape[any_length:])
    if tensor is None or (tensor.dtype, tensor.ndim, shape) != (own.dtype, own.ndim, expected):
        found = "nothing" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
        raise ValueError(
            f"the checkpoint {saved.path}, {name!r}: expected {own.dtype} of shape {expected}, found {found}. It is of "
            "another environment, or of another version of it: train on from its weights in another `run_dir`."
        )
    return from_storable(tensor.copy(), like)
