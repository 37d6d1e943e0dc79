"""A process that makes films of a training: `python -m ppo2.evaluation.film_child CONNECTION LIFELINE`.

A fresh interpreter that doesn't run the script that started it, so that nothing of what draws (OpenGL, SDL, an
environment's own random numbers) touches the training. CONNECTION and LIFELINE are descriptors that it inherits: the
scene and weights come by the first, and answers go back; when the other end of the second is closed, it ends.
"""

import contextlib
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

from ppo2.system.descendants import children, terminate

NICENESS = 10
"""Lower priority: training goes first."""


def main(connection: Connection, lifeline: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which says when to end
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    from ppo2.agent.pickling import packed, unpacked
    from ppo2.system import runtime

    with contextlib.suppress(EOFError, OSError):  # the parent has no more work
        unpacked(connection.recv_bytes()).take_up()
        runtime.begin()
        from ppo2.evaluation.studio import Studio

        try:
            studio = Studio(unpacked(connection.recv_bytes()))
        except Exception as error:
            connection.send_bytes(packed(f"{type(error).__name__}: {' '.join(str(error).split())}"))
            return
        connection.send_bytes(packed(""))
        while True:
            weights, path = unpacked(connection.recv_bytes())
            connection.send_bytes(packed(studio.film(weights, path)))


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    terminate(children())
    os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
