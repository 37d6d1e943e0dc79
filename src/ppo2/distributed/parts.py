"""The part that each process has in a training: its environments, and the settings that all must share.

A process by itself has all of them.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from ppo2.distributed import collectives
from ppo2.distributed.processes import World

T = TypeVar("T")


def local_num_envs(num_envs: int | None, default: int, world: World) -> int | None:
    """The number of environments that this process makes, of `num_envs` (None: about `default`) over all of them.

    Raises:
        ValueError: they can't be divided equally.
    """
    if world.size == 1 or (num_envs is not None and num_envs <= 0):  # refused later
        return num_envs
    if num_envs is None:
        return -(-default // world.size)
    if num_envs % world.size:
        raise ValueError(
            f"`num_envs` (={num_envs}) counts the environments of all {world.size} processes, each of which steps as "
            f"many: it must be a multiple of {world.size}, such as {-(-num_envs // world.size) * world.size}."
        )
    return num_envs // world.size


def synchronise_model(state: T, when: str) -> tuple[T, str]:
    """Rank 0's state of the model, and a message that names the ranks whose state differed ("" if none did).

    Raises:
        ValueError: states have other shapes than that of rank 0.
    """
    state, others = collectives.synchronise(state)
    if not others:
        return state, ""
    return state, (
        f"{when}, the model was another one in rank {', '.join(map(str, others))} than in rank 0: all continue with "
        "that one. What `network`, `model_fn`, `init_fn` and `update_fn` do to the model must be the same in all "
        "processes."
    )


def check_agreed(settings: Mapping[str, Any]) -> None:
    """Raises ValueError where processes were given different settings."""
    first, *others = collectives.all_gather(settings)
    for rank, theirs in enumerate(others, 1):
        for name, value in theirs.items():
            if value != first[name]:
                raise ValueError(
                    f"`{name}` is {first[name]!r} in the process of rank 0 and {value!r} in that of rank {rank}: all "
                    "must be given the same."
                )
