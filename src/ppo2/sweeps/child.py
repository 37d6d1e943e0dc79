"""A process that trains runs of a sweep: `python -m ppo2.sweeps.child CONNECTION LIFELINE OF_ALL PROCESSOR...`.

A fresh interpreter that doesn't run the script that started it. CONNECTION and LIFELINE are descriptors that it
inherits: runs come by the first, and reports go back. When the other end of the second is closed, as by the death of
the process that started it, it stops as by SIGTERM: after the update, with a checkpoint. OF_ALL and PROCESSOR are the
arguments of `take_share`.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ppo2.system import exits, processors
from ppo2.system.signals import StopSignals, signal_of

if TYPE_CHECKING:
    from ppo2.agent.model import Model
    from ppo2.sweeps.messages import Message

LEAVE_SECONDS = 60.0
"""Seconds that the update may take, and saving, once the parent is gone."""
TERMINATED = 128 + signal.SIGTERM


def main(connection: Connection, lifeline: int) -> None:
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    with StopSignals() as stop:
        from ppo2.agent.pickling import unpacked  # here, as JAX starts threads when it is imported
        from ppo2.sweeps.messages import GIVE_UP
        from ppo2.system import runtime

        with contextlib.suppress(EOFError):  # the parent has no more work
            unpacked(connection.recv_bytes()).take_up()
            runtime.begin()
            while stop.received is None:
                if (work := connection.recv_bytes()) != GIVE_UP:  # of a run that was done by then
                    _send(connection, _train(connection, stop, *unpacked(work)))


def _train(
    connection: Connection, stop: StopSignals, run: int, episodes: int, run_dir: Any, pickled: bytes
) -> "Message":
    """Trains a run, and reports of it. Returns the message about how it ended."""
    from ppo2.agent.pickling import unpacked
    from ppo2.sweeps.messages import Failed, Reporter, called_exit, train, trained

    report = Reporter(run, episodes, lambda message: _send(connection, message))

    def update_fn(update: int, model: "Model", stats: Any) -> bool:
        report(update, model, stats)
        return not _is_given_up(connection)

    try:
        env, settings = unpacked(pickled)
        model: Model | None = train(env, run_dir, settings, update_fn)
    except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard a signal, and finished its update
        stop.received = signal_of(stopped)
        if stop.received is None:
            return Failed.of(run, called_exit(stopped))
        return trained(run, report.model, stopped=True)
    except Exception as error:
        return Failed.of(run, error)
    return trained(run, model)


def _is_given_up(connection: Connection) -> bool:
    from ppo2.sweeps.messages import GIVE_UP

    with contextlib.suppress(EOFError, OSError):  # the parent is gone, and the run stops
        return connection.poll() and connection.recv_bytes() == GIVE_UP
    return False


def _send(connection: Connection, message: "Message") -> None:
    from ppo2.agent.pickling import packed

    with contextlib.suppress(OSError):  # the parent is gone, and the run stops
        connection.send_bytes(packed(message))


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # nobody reads what is printed
        os.dup2(nowhere, stream)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_SECONDS)
    exits.end(None, TERMINATED)


if __name__ == "__main__":
    first, second, of_all, *mine = map(int, sys.argv[1:])
    processors.take_share(of_all, mine)
    try:
        main(Connection(first), second)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
