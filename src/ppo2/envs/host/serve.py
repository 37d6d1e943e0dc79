"""What a worker process does: it steps its share of a `HostVectorEnv`'s environments. Without JAX."""

import mmap
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cloudpickle

from ppo2.envs.host.buffers import ArraySpec, buffers_at, buffers_size, control_rows_at
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.failures import ContractError, EnvironmentFailureError
from ppo2.envs.host.semaphore import Semaphore
from ppo2.envs.host.serial_envs import ENV_ERRORS, SerialEnvs, separate

STEP, RESET, SAVE, RESTORE, CLOSE = range(1, 6)
CURRENT, COMMAND, ENDED, NEWS = 0, 2, 4, 6
"""Places in a worker's row of control: which environment's turn it is; then, for each of at most two groups, what
it is to do (0: nothing), whether an episode of it ended, and whether there is something to receive about it."""
REQUESTS: dict[int, Callable[..., Any]] = {
    RESET: SerialEnvs.reset,
    SAVE: SerialEnvs.save_states,
    RESTORE: SerialEnvs.restore,
}
"""What a group may be asked for between its steps, with one argument, which a worker receives."""


class WorkerSetup(NamedTuple):
    """What a worker is told at first.

    Attributes:
        factories: of its environments, for each group; at most two.
        rows: which of the board's they are, for each group.
        fields: of the board, for all environments.
        descriptor, size: of the memory: the board, then a row of control for each worker.
        worker: its row of control.
        spin: whether it may spin.
        info_keys: see `SerialEnvs`.
        argv: of the program, whose factories may look there.
    """

    factories: list[list[Factory]]
    rows: list[slice]
    buffer_specs: list[list[ArraySpec] | ArraySpec]
    descriptor: int
    size: int
    worker: int
    spin: bool
    info_keys: tuple[str, ...]
    argv: list[str]


def serve(connection: Connection, go: Semaphore, done: list[Semaphore]) -> None:
    """Receives its task, and does what it is told until it is told to close.

    Args:
        connection: whose other end gives the task, and gets what can't be said on the board.
        go: there is a command.
        done: for each group, the last one was obeyed.
    """
    groups: list[SerialEnvs] = []
    try:
        setup: WorkerSetup = cloudpickle.loads(connection.recv_bytes())
        sys.argv = setup.argv
        buffer = mmap.mmap(setup.descriptor, setup.size)
        os.close(setup.descriptor)
        whole = buffers_at(buffer, setup.buffer_specs)
        all_buffers = [whole.rows(rows) for rows in setup.rows]
        for factories, rows, buffers in zip(setup.factories, setup.rows, all_buffers, strict=True):
            groups.append(SerialEnvs(factories, first=rows.start, info_keys=setup.info_keys))
            groups[-1].attach(buffers)
    except ENV_ERRORS as error:
        _send(connection, _portable(error))
        return
    control = control_rows_at(buffer, setup.size, buffers_size(setup.buffer_specs))[setup.worker]
    at = control[CURRENT : CURRENT + 1]
    _send(connection, [(group.observation_space, group.action_space) for group in groups])
    turn = 0
    while True:
        go.acquire(spin=setup.spin, check=_nothing)
        while not control[COMMAND + turn]:
            turn = (turn + 1) % len(groups)
        command, control[COMMAND + turn] = int(control[COMMAND + turn]), 0
        if command == CLOSE:
            for group in groups:
                group.close()
            return
        group, buffers = groups[turn], all_buffers[turn]
        try:
            if command == STEP:
                ended = group.step(separate(group.action_space, buffers), at)
                control[ENDED + turn] = ended
                answer: Any = group.failures or None
            else:
                answer = REQUESTS[command](group, cloudpickle.loads(connection.recv_bytes()), at)
        except ENV_ERRORS as error:
            answer = _portable(error)
        control[NEWS + turn] = answer is not None
        done[turn].release()
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
