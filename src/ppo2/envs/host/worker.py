"""A process that steps environments: `python -m ppo2.envs.host.worker CONNECTION LIFELINE GO DONE...`.

A fresh interpreter that imports neither JAX nor the script that started it. CONNECTION and LIFELINE are descriptors
that it inherits: setup and requests come by the first; when the other end of the second is closed, it closes its
environments and ends, so that no process that an environment started is left behind. The others are names of
semaphores, which it removes once it holds them: so it does that before anything that takes time.
"""

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from ppo2.envs.host.semaphore import Semaphore
from ppo2.system.descendants import children, end

CLOSE_SECONDS = 3.0
"""Seconds that closing the environments may take once the parent has let go."""


class ParentLeftError(BaseException):
    """Raised in the main thread, whatever an environment does, once the parent has let go; no failure of theirs."""


_parent_left = threading.Event()


def main(connection: Connection, lifeline: int, names: list[str]) -> None:
    go, *done = [Semaphore(name) for name in names]
    for semaphore in (go, *done):
        semaphore.unlink()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which says when to end
        signal.signal(number, _heard)
    groups: list[Any] = []
    try:
        threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()

        from ppo2.envs.host.worker_loop import run  # takes a while, in which the parent may let go

        run(connection, go, done, groups)
    except ParentLeftError:
        pass
    finally:
        for envs in groups:
            envs.close()
        end(children())  # of an environment whose constructor was broken off


def _heard(_number: int, _frame: FrameType | None) -> None:
    if _parent_left.is_set():
        raise ParentLeftError


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    _parent_left.set()
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # breaks off waiting and sleeping too
    time.sleep(CLOSE_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
