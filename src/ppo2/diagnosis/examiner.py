"""Processes, which may die or hang, and threads in which an environment is checked."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import IO, Any, Protocol

from ppo2.diagnosis.child import examine
from ppo2.diagnosis.findings import Finding, Proposal
from ppo2.diagnosis.subject import Subject, packed, unpacked
from ppo2.envs.host import registrations
from ppo2.envs.host.constructors import LIBRARIES, OURS
from ppo2.system import runtime

START_SECONDS = 60.0
"""Seconds that starting a process, and importing what it needs, may take."""
COMPILE_SECONDS = 200.0
"""Seconds that a program of a device environment may take to be compiled."""
STACK_SECONDS = 0.5
"""Seconds that a process has to write where it is."""
END_SECONDS = 5.0
"""Seconds that a process has to end, once its connection is closed."""
MOST_STARTS = 5
"""Times that checking is begun again after a check that died or hung."""
LOST = "lost"
"""Name of the message that a process is gone."""


class Examiner(Protocol):
    """Somewhere to check an environment."""

    def start(self, done: Sequence[str]) -> None:
        """Begins, without the checks that are done."""

    def receive(self, seconds: float) -> Any:
        """The next message; None where none came in time; (LOST, words) where none will come."""

    def stack(self) -> str:
        """The stack of calls that it is in, as text; "" where that can't be seen."""

    def end(self) -> None:
        """Breaks it off."""


class ProcessExaminer:
    """A fresh interpreter that checks."""

    def __init__(self, subject: Subject) -> None:
        self._subject = packed(subject)
        self._process: subprocess.Popen[bytes] | None = None
        self._stacks: IO[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self, done: Sequence[str]) -> None:
        self._connection, theirs = Pipe()
        self._stacks, self._output = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 (see `end`)
        handed = (theirs.fileno(), self._stacks.fileno())
        paths = [str(Path(OURS).parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ppo2.diagnosis.child", *map(str, handed)],
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **_elsewhere(), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,  # what it starts ends with it
        )
        theirs.close()
        message = packed((sys.path, sys.argv, registrations.registered(), self._subject, tuple(done)))
        with contextlib.suppress(OSError):  # it died, which `receive` will see
            self._connection.send_bytes(message)

    def receive(self, seconds: float) -> Any:
        try:
            if not self._connection.poll(seconds):
                return None
            return unpacked(self._connection.recv_bytes())
        except (EOFError, OSError):
            return LOST, self._fate()

    def _fate(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        status = self._process.poll()
        said = self._last_words()
        if status is not None and status < 0:
            name = signal.Signals(-status).name
            hint = " (memory?)" if -status == signal.SIGKILL else ""
            return f"the process was killed by {name}{hint}{place_in(self._written())}{said}"
        return f"the process ended with status {status}{said}"

    def _last_words(self) -> str:
        """The last line that the process printed, in words."""
        assert self._output is not None
        self._output.seek(0)
        lines = [line for line in self._output.read()[-4000:].decode(errors="replace").splitlines() if line.strip()]
        return f", after it printed: {lines[-1].strip()[:200]}" if lines else ""

    def stack(self) -> str:
        assert self._process is not None
        assert self._stacks is not None
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGUSR1)
        time.sleep(STACK_SECONDS)
        return self._written()

    def _written(self) -> str:
        """The stack that it wrote."""
        assert self._stacks is not None
        self._stacks.seek(0)
        return self._stacks.read().decode(errors="replace")

    def end(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._connection.close()
        for file in (self._stacks, self._output):
            if file is not None:
                file.close()
        self._process = None


def _elsewhere() -> dict[str, str]:
    """Environment variables that keep another process off a card whose memory this one has taken."""
    return {"JAX_PLATFORMS": "cpu"} if runtime.has_started() else {}


class ThreadExaminer:
    """A thread that checks, where an environment can't travel; one that hangs is left to itself."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def start(self, done: Sequence[str]) -> None:
        self._messages: queue.Queue[Any] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(self._messages, done), daemon=True)
        self._thread.start()

    def _run(self, messages: "queue.Queue[Any]", done: Sequence[str]) -> None:
        try:
            examine(self._subject, done, messages.put)
        except BaseException as error:
            messages.put((LOST, f"{type(error).__name__}: {error}"))

    def receive(self, seconds: float) -> Any:
        with contextlib.suppress(queue.Empty):
            return self._messages.get(timeout=seconds)
        return None

    def stack(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "" if frame is None else "".join(reversed(traceback.format_stack(frame)))

    def end(self) -> None:
        pass


def examined(subject: Subject, examiner: Examiner, say: Callable[[Finding], None]) -> Proposal | None:
    """Has an environment checked, whatever it does; the proposal, if there is one.

    Args:
        say: told of each finding.
    """
    done: list[str] = []
    for _ in range(MOST_STARTS):
        examiner.start(done)
        try:
            check = "start"
            for message in _messages(subject, examiner):
                kind, *content = message
                if kind == "begins":
                    done += [check] if check not in done else []
                    check = content[0]
                elif kind == "found":
                    say(content[0])
                elif kind == "proposal":
                    proposal: Proposal | None = content[0]
                    return proposal
                else:
                    say(_broken_off(check, kind, content[0]))
        finally:
            examiner.end()
        if check in done or check in ("start", "constructor", "proposal"):
            return None  # it would happen again
        done.append(check)
    return None


def _messages(subject: Subject, examiner: Examiner) -> Iterator[Any]:
    """Messages of the examiner, up to the proposal, or ("hung", words) or (LOST, words)."""
    patience, slow = START_SECONDS, 0.0
    while True:
        message = examiner.receive(patience)
        if message is None:
            yield "hung", f"nothing came back for {patience:.0f} s: it hangs{place_in(examiner.stack())}"
            return
        if message[0] == "kind":
            slow = COMPILE_SECONDS if message[1] == "device" else 0.0
            continue
        yield message
        if message[0] in (LOST, "proposal"):
            return
        # a check calls the environment for a share of all seconds, and each call may take its time
        patience = subject.timeout + subject.seconds / 2 + slow


def _broken_off(check: str, kind: str, words: str) -> Finding:
    remedy = "let nothing in the environment wait without end" if kind == "hung" else "run it by itself to see more"
    return Finding(check, "fault", words, remedy)


def place_in(stack: str) -> str:
    """Words for the innermost place of a stack that is neither ours nor a library's, else any; "" where there is none.

    Args:
        stack: text with the innermost call first, as of `faulthandler`.
    """
    places = re.findall(r'File "(.+?)", line (\d+),? in (.+)', stack)
    found = [place for place in places if not place[0].startswith(OURS)]
    own = [place for place in found if not place[0].startswith(LIBRARIES)] or found
    return f", in {own[0][2]} ({own[0][0]}, line {own[0][1]})" if own else ""
