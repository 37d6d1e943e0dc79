"""The process that makes films of a training, seen from the process that trains, which never waits for it."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from ppo2.agent.copies import ActorWeights
from ppo2.agent.pickling import packed, unpacked
from ppo2.agent.surroundings import Surroundings, environment_variables
from ppo2.evaluation import renderers
from ppo2.evaluation.studio import Scene, Shot
from ppo2.system.exits import ACTION_SECONDS, EXIT_HOOKS

START_SECONDS = 120.0
"""Seconds that starting a process and making its environments may take."""
MOST_LOSSES = 3
"""Processes that may fail, after which no more is started."""
MOST_WAITING, MOST_BYTES = 8, 2**28
"""Films that wait while one is being made, and bytes of their weights, above which no more are taken."""
CLOSE_SECONDS = 5.0
"""Seconds that ending the process may take."""
LOOK_SECONDS = 0.1
"""Interval of looking whether a film is done."""


def params_bytes(weights: ActorWeights) -> int:
    """Bytes of the parameters."""
    return int(weights.params.nbytes)


class FilmMaker:
    """Makes films in another process, one after the other, while training goes on.

    Args:
        scene: the environments and the policy.

    Raises:
        ValueError: the scene can't be sent to another process.
    """

    def __init__(self, scene: Scene) -> None:
        try:
            self._scene = packed(scene)
        except Exception as error:  # of whatever is asked to travel
            raise ValueError(
                "films are made in a process of their own, to which the model and a function that makes the "
                f"environments must travel: {type(error).__name__}: {error}"
            ) from error
        self._surroundings = packed(Surroundings.here())
        self._news = threading.Condition()
        self._orders: deque[tuple[ActorWeights, Path]] = deque()
        self._shots: deque[Shot] = deque()
        self._busy, self._losses, self._closed = False, 0, False
        self._path: Path | None = None  # of the film that is being made
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._is_ready = False
        self._lifeline = -1
        self._thread = threading.Thread(target=self._work, name="ppo2-films", daemon=True)
        self._thread.start()

    @property
    def left(self) -> int:
        """Number of films that are being made, or wait."""
        with self._news:
            return len(self._orders) + self._busy

    def film(self, weights: ActorWeights, path: Path, *, first: bool = False) -> bool:
        """Has a film made with these weights; False where too many wait.

        Args:
            first: before all that wait, however many.
        """
        with self._news:
            size = params_bytes(weights)
            if not first and (len(self._orders) >= MOST_WAITING or len(self._orders) * size > MOST_BYTES):
                return False
            (self._orders.appendleft if first else self._orders.append)((weights, path))
            self._news.notify()
        return True

    def shots(self) -> list[Shot]:
        """The films that were made, or failed, since the last call."""
        found = []
        while self._shots:
            found.append(self._shots.popleft())
        return found

    def wait(self, seconds: float, until: Callable[[], bool]) -> bool:
        """Waits until all films are made; False where that takes longer, or `until` is True before."""
        deadline = time.monotonic() + seconds
        while self.left:
            if time.monotonic() > deadline or until():
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def close(self) -> None:
        """Ends the process, whatever it does."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._let_go()
        self._thread.join(CLOSE_SECONDS)
        EXIT_HOOKS.discard(self._let_go)

    # --- in a thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with contextlib.suppress(Exception):  # the first film tries again
            self._launch()
        while True:
            with self._news:
                self._busy = False
                self._news.wait_for(lambda: self._closed or self._orders)
                if self._closed:
                    break
                order = self._orders.popleft()
                self._busy = True
            shot = self._made(*order)
            if not self._closed:
                self._shots.append(shot)
        self._end()

    def _made(self, weights: ActorWeights, path: Path) -> Shot:
        self._path = path
        try:
            if self._process is None:
                self._launch()
            if not self._is_ready:
                if not self._connection.poll(START_SECONDS):
                    raise TimeoutError(f"the process that films took more than {START_SECONDS:g} s to start")
                if refusal := unpacked(self._connection.recv_bytes()):
                    self._end()
                    self._losses += 1
                    return Shot(path, failure=f"the environments can't be made anew: {refusal}")
                self._is_ready = True
            self._connection.send_bytes(packed((weights, path)))
            shot: Shot = unpacked(self._connection.recv_bytes())
            self._path = None
            return shot
        except Exception as error:
            words = self._fate() if isinstance(error, EOFError | ConnectionError) else str(error)
            self._end()
            self._losses += 1
            return Shot(path, failure=words)

    def _launch(self) -> None:
        if self._losses >= MOST_LOSSES:
            raise RuntimeError(f"{MOST_LOSSES} processes that were to film have failed; no more is started")
        self._is_ready = False
        self._connection, theirs = Pipe()
        life, self._lifeline = os.pipe()
        handed = (theirs.fileno(), life)
        name = renderers.chosen()
        drawing = {} if name is None else {renderers.VARIABLE: name}
        if self._closed:
            raise RuntimeError("training is over")
        # a film needs no accelerator, nor its memory
        own = {"JAX_PLATFORMS": "cpu", "PYGAME_HIDE_SUPPORT_PROMPT": "1", "SDL_VIDEODRIVER": "dummy"}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `_end`)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ppo2.evaluation.film_child", *map(str, handed)],
                pass_fds=handed,
                env={**own, **os.environ, **environment_variables(), **drawing, "JAX_PLATFORMS": "cpu"},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                process_group=0,  # what interrupts this process is not for that one
            )
            EXIT_HOOKS.add(self._let_go)
            for message in (self._surroundings, self._scene):
                self._connection.send_bytes(message)
        finally:
            theirs.close()
            os.close(life)

    def _fate(self) -> str:
        """Words for how the process ended."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(ACTION_SECONDS)
        status = self._process.poll()
        self._output.seek(0)
        lines = [line for line in self._output.read().decode(errors="replace").splitlines() if line.strip()]
        said = f" ({lines[-1].strip()[:200]})" if lines else ""
        how = f"was killed by signal {-status}" if status is not None and status < 0 else f"ended with status {status}"
        return f"the process that films {how}{said}.{renderers.remedy()}"

    def _end(self) -> None:
        self._let_go()
        if self._process is not None:
            self._process.wait()
            self._process = None
            self._connection.close()
            self._output.close()
        if self._path is not None:  # what was begun of it
            with contextlib.suppress(OSError):
                for file in self._path.parent.glob(f".{self._path.stem}.*{self._path.suffix}"):
                    file.unlink()

    def _let_go(self) -> None:
        """Ends the process; from any thread."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ACTION_SECONDS / 2)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with what encodes the film
