"""What a worker process does: it steps its share of a `HostVectorEnv`'s environments. Without JAX."""

import mmap
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cloudpickle

from ppo2.envs.host.failures import ContractError, EnvironmentFailureError
from ppo2.envs.host.group import FAILURE, Factory, Field, Group, separate
from ppo2.envs.host.memory import board_at, boards_size, control_at
from ppo2.envs.host.semaphore import Signal

STEP, RESET, SAVE, RESUME, CLOSE = range(1, 6)
CURRENT, COMMAND, ENDED, NEWS = 0, 2, 4, 6
"""Places in a worker's row of control: which environment's turn it is; then, for each of at most two groups, what
it is to do (0: nothing), whether an episode of it ended, and whether there is something to receive about it."""
ASKED: dict[int, Callable[..., Any]] = {RESET: Group.reset, SAVE: Group.save, RESUME: Group.resume}
"""What a group may be asked for between its steps, with one argument, which a worker receives."""


class Task(NamedTuple):
    """What a worker is told at first.

    Attributes:
        factories: of its environments, for each group; at most two.
        rows: which of the board's they are, for each group.
        fields: of the board, for all environments.
        descriptor, size: of the memory: the board, then a row of control for each worker.
        worker: its row of control.
        spin: whether it may spin.
        info_keys: see `Group`.
        argv: of the program, whose factories may look there.
    """

    factories: list[list[Factory]]
    rows: list[slice]
    fields: list[list[Field] | Field]
    descriptor: int
    size: int
    worker: int
    spin: bool
    info_keys: tuple[str, ...]
    argv: list[str]


def serve(connection: Connection, go: Signal, done: list[Signal]) -> None:
    """Receives its task, and does what it is told until it is told to close.

    Args:
        connection: whose other end gives the task, and gets what can't be said on the board.
        go: there is a command.
        done: for each group, the last one was obeyed.
    """
    groups: list[Group] = []
    try:
        task: Task = cloudpickle.loads(connection.recv_bytes())
        sys.argv = task.argv
        buffer = mmap.mmap(task.descriptor, task.size)
        os.close(task.descriptor)
        whole = board_at(buffer, task.fields)
        boards = [whole.rows(rows) for rows in task.rows]
        for factories, rows, board in zip(task.factories, task.rows, boards, strict=True):
            groups.append(Group(factories, first=rows.start, info_keys=task.info_keys))
            groups[-1].attach(board)
    except FAILURE as error:
        _send(connection, _portable(error))
        return
    control = control_at(buffer, task.size, boards_size(task.fields))[task.worker]
    at = control[CURRENT : CURRENT + 1]
    _send(connection, [(group.observation_space, group.action_space) for group in groups])
    turn = 0
    while True:
        go.wait(spin=task.spin, look=_nothing)
        while not control[COMMAND + turn]:
            turn = (turn + 1) % len(groups)
        command, control[COMMAND + turn] = int(control[COMMAND + turn]), 0
        if command == CLOSE:
            for group in groups:
                group.close()
            return
        group, board = groups[turn], boards[turn]
        try:
            if command == STEP:
                ended = group.step(separate(group.action_space, board), at)
                control[ENDED + turn] = ended
                answer: Any = group.failures or None
            else:
                answer = ASKED[command](group, cloudpickle.loads(connection.recv_bytes()), at)
        except FAILURE as error:
            answer = _portable(error)
        control[NEWS + turn] = answer is not None
        done[turn].give()
        if answer is not None:
            _send(connection, answer)
        turn = (turn + 1) % len(groups)


def _send(connection: Connection, message: Any) -> None:
    connection.send_bytes(cloudpickle.dumps(message))


def _portable(error: BaseException) -> Exception:
    """The exception with its traceback in words, as one that any process can read."""
    text = "".join(traceback.format_exception(error))
    known = (ValueError, TypeError, ContractError, EnvironmentFailureError)
    kind = next((kind for kind in known if type(error) is kind), None)
    told = kind(str(error)) if kind is not None else RuntimeError(f"{type(error).__name__}: {error}")
    told.add_note(text)
    return told


def _nothing() -> None:
    """The process ends with its parent: nobody waits in vain."""
