"""A process that steps environments: `python -m ppo2.envs.host.worker CONNECTION LIFELINE GO DONE...`.

A fresh interpreter, which imports neither JAX nor the script that started it. CONNECTION and LIFELINE are descriptors
that it inherits: what it is to do comes by the first, and it ends when the other end of the second is closed. The
others are names of signals, which are taken away once it holds them: so it does that before anything that takes time.
"""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from ppo2.envs.host.semaphore import Semaphore


def main(connection: Connection, lifeline: int, names: list[str]) -> None:
    go, *done = [Semaphore(name) for name in names]
    for held in (go, *done):
        held.unlink()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which will say when to end
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    connection.send_bytes(b"held")

    from ppo2.envs.host.serve import serve

    serve(connection, go, done)


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])
