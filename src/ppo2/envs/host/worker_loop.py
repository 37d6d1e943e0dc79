"""Work of a worker process: it steps its slice of a `HostVectorEnv`'s environments; without JAX."""

import contextlib
import mmap
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import cloudpickle

from ppo2.config.info_keys import end_keys
from ppo2.envs.host import registrations
from ppo2.envs.host.buffers import Spaces, buffers_in, control_rows_in
from ppo2.envs.host.env_types import Factory
from ppo2.envs.host.identity import check_distinct
from ppo2.envs.host.infos import EnvInfo
from ppo2.envs.host.semaphore import Semaphore
from ppo2.envs.host.serial_envs import ENV_ERRORS
from ppo2.envs.host.worker_envs import WorkerEnvs
from ppo2.system import verbosity
from ppo2.system.text import say_error

STEP, REQUEST, CLOSE, FULL_STEP = 1, 2, 3, 4
"""Commands. A full step hands on infos. A request, between steps, comes by the connection: a method of `WorkerEnvs` and
an argument for groups.
"""
CURRENT, COMMAND, FLAGS, NEWS = 0, 2, 4, 6
"""Offsets in a worker's row of control words: the index of the environment at work; then, for each of at most two
groups, its command (0: none), the flags of its step, 1 if the connection holds an answer about it.
"""

_LEFT_OUT: set[str] = set()
"""Entries of infos that can't travel, of which this process has told."""


class WorkerSetup(NamedTuple):
    """First message to a worker process.

    Attributes:
        factories, rows: factories and global indices of its environments, for each group; at most two.
        spaces: spaces that they must have.
        num_envs: number of all environments.
        descriptor, size: shared memory, which holds their buffers and a row of control words for each worker.
        worker: number of its row of control words.
        spin: True if it may spin while it waits.
        info_keys: see `WorkerEnvs`.
        argv: arguments of the program, for factories that read them.
        environments: see `registrations.registered`, for factories that make them by their ids.
    """

    factories: list[list[Factory]]
    rows: list[slice]
    spaces: Spaces
    num_envs: int
    descriptor: int
    size: int
    worker: int
    spin: bool
    info_keys: tuple[str, ...]
    argv: list[str]
    environments: Mapping[str, bytes]


def answer_request(groups: Sequence[WorkerEnvs], method: str, arguments: Mapping[int, Any]) -> dict[int, Any]:
    """Answers of some of a worker's groups to a request, given an argument for each."""
    return {group: getattr(groups[group], method)(argument) for group, argument in arguments.items()}


def run(connection: Connection, go: Semaphore, done: list[Semaphore], groups: list[WorkerEnvs]) -> None:
    """Works as `_run` does; messages for people go to the process that trains, with the next answer."""
    with verbosity.keeping() as told:
        _run(connection, go, done, groups, told)


def _run(
    connection: Connection,
    go: Semaphore,
    done: list[Semaphore],
    groups: list[WorkerEnvs],
    told: list[verbosity.Message],
) -> None:
    """Receives the setup and obeys commands, each a release of `go`, until it is told to close.

    `done[group]` is released when a group's command has been obeyed; `connection` takes what the buffers can't, with
    the group's number, as two groups' commands may be obeyed in either order. `groups` gets the environments, for the
    caller to close, however this ends.
    """
    try:
        setup: WorkerSetup = cloudpickle.loads(connection.recv_bytes())
        sys.argv = setup.argv
        registrations.take_up(setup.environments)
        memory = mmap.mmap(setup.descriptor, setup.size)
        os.close(setup.descriptor)
        buffers, size = buffers_in(memory, setup.spaces, setup.num_envs, len(end_keys(setup.info_keys)))
        control = control_rows_in(memory, size)[setup.worker]
        for factories, rows in zip(setup.factories, setup.rows, strict=True):
            envs = WorkerEnvs(factories, first=rows.start, info_keys=setup.info_keys, expected=setup.spaces)
            envs.attach(buffers.rows(rows))
            envs.current = control[CURRENT : CURRENT + 1]
            groups.append(envs)
        check_distinct(env for envs in groups for env in envs.envs)
    except ENV_ERRORS as error:
        connection.send_bytes(cloudpickle.dumps((_portable(error), told)))
        return
    connection.send_bytes(cloudpickle.dumps((None, told)))
    told.clear()
    turn = 0
    while True:
        go.acquire(spin=setup.spin)
        while not control[COMMAND + turn]:
            turn = (turn + 1) % len(groups)
        command, control[COMMAND + turn] = int(control[COMMAND + turn]), 0
        answer: Any = None
        try:
            if command in (STEP, FULL_STEP):
                control[FLAGS + turn], failed, infos = groups[turn].step(full=command == FULL_STEP)
                failures = [one._replace(error=_portable(one.error)) for one in failed]
                answer = (failures, infos) if failures or infos else None
            elif command == CLOSE:
                break
            else:
                answer = answer_request(groups, *cloudpickle.loads(connection.recv_bytes()))
        except ENV_ERRORS as error:
            answer = _portable(error)
        control[NEWS + turn] = answer is not None
        done[turn].release()
        if answer is not None:
            connection.send_bytes(message_of(turn, answer, told))
            told.clear()
        turn = (turn + 1) % len(groups)


def _portable(error: Any) -> Any:
    """An exception with its traceback as a note, of its own class if that can travel; None stays None."""
    if error is None:
        return None
    note = "".join(traceback.format_exception(error))
    try:
        portable: Any = cloudpickle.loads(cloudpickle.dumps(error))
        assert type(portable) is type(error)
    except Exception:  # of a class that wants other arguments, or holds what can't be sent
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(portable, Exception):  # SystemExit, which is not for the process that trains
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note(note)
    return portable


def message_of(group: int, answer: Any, told: list[verbosity.Message]) -> bytes:
    """A group, its answer and messages for people as bytes, without entries of infos that can't be sent."""
    error = TypeError(f"the environments gave {answer!r}, which can't travel between processes.")
    for some in (lambda: answer, lambda: _without_unpicklable(answer), lambda: error):
        with contextlib.suppress(Exception):
            message: bytes = cloudpickle.dumps((group, some(), told))
            return message
    raise error


def _without_unpicklable(answer: Any) -> Any:
    """An answer without the entries of infos that can't be pickled, such as locks and windows."""
    if isinstance(answer, EnvInfo):
        final = None if answer.final is None else _picklable(answer.final)
        return EnvInfo(answer.env, _picklable(answer.info), final)
    if isinstance(answer, dict):
        return {key: _without_unpicklable(one) for key, one in answer.items()}
    return type(answer)(map(_without_unpicklable, answer)) if type(answer) in (list, tuple) else answer


def _picklable(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of an info that can be pickled; says once which can't."""
    kept: dict[str, Any] = {}
    for key, value in info.items():
        try:
            cloudpickle.dumps(value)
        except Exception:
            if key not in _LEFT_OUT:
                _LEFT_OUT.add(key)
                say_error(f"info[{key!r}] is left out: it can't travel from a worker.")
        else:
            kept[key] = value
    return kept
