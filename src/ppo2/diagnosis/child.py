"""The process that checks an environment: `python -m ppo2.diagnosis.child CONNECTION STACKS`.

A fresh interpreter. CONNECTION and STACKS are descriptors that it inherits: the subject comes by the first, and
findings go back; into the second it writes where it is when SIGUSR1 comes, whatever the environment is doing.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ppo2.diagnosis.subject import packed, unpacked
from ppo2.envs.host import registrations

LOOK_SECONDS = 1.0
"""Interval of looking whether the process that started this one is there."""


def examine(subject: Any, done: Sequence[str], say: Callable[[Any], None]) -> None:
    """Makes the checks of a subject, and says what each finds: ("begins", name), ("found", finding), ("proposal", ...).

    Args:
        done: names of checks that are not to be made again; those that are needed first are.
    """
    from ppo2.diagnosis import checks
    from ppo2.diagnosis.findings import Finding
    from ppo2.diagnosis.subject import Case
    from ppo2.system import runtime

    runtime.begin()
    case = Case(subject)
    for name in checks.NAMES:
        function = checks.check_of(name, case.kind)
        if function is None or (name in done and name not in checks.FIRST):
            continue
        say(("begins", name))
        for finding in checks.run(case, name, function):
            if name not in done:
                say(("found", finding))
        say(("kind", case.kind))
        if words := checks.obstacle(case, name):
            say(("found", Finding("all else", "skipped", words)))
            break
    say(("begins", "proposal"))
    say(("proposal", checks.proposal(case)))


def _end_with(parent: int) -> None:
    """Ends this process, whatever the environment is doing, once the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def main(connection: Connection, stacks: int) -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    faulthandler.enable(file=stacks, all_threads=False)  # for what kills it, such as SIGSEGV
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=False)
    paths, arguments, registered, pickled, done = unpacked(connection.recv_bytes())
    sys.path[:], sys.argv[:] = paths, arguments
    registrations.take_up(registered)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    examine(unpacked(pickled), done, lambda message: connection.send_bytes(packed(message)))


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
