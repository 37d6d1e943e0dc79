"""A process that steps environments: `python -m ppo2.envs.host.worker CONNECTION LIFELINE GO DONE...`.

A fresh interpreter that imports neither JAX nor the script that started it. CONNECTION and LIFELINE are descriptors
that it inherits: setup and requests come by the first, and it ends when the other end of the second is closed. The
others are names of semaphores, which it removes once it holds them: so it does that before anything that takes time.
"""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from ppo2.envs.host.semaphore import Semaphore


def main(connection: Connection, lifeline: int, names: list[str]) -> None:
    go, *done = [Semaphore(name) for name in names]
    for semaphore in (go, *done):
        semaphore.unlink()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which says when to end
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()

    from ppo2.envs.host.worker_loop import run

    run(connection, go, done)


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
