"""Training under all that can go wrong, for a while: `make soak`, or `python tests/support/soak.py --minutes 3`.

A run on environments that raise, leave their process and hang is interrupted, terminated, killed, loses its workers and
finds its disk full, at random moments, and is resumed each time. What is told at the end: whether anything was lost,
and whether anything was left behind.
"""

import argparse
import contextlib
import csv
import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ppo2.checkpoints import checkpoint

ROOM = 16 * 2**20  # bytes of the run's own file system
SAVE_INTERVAL = 5  # updates
PROGRAM = Path(__file__).parent / "soak_training.py"

INTERRUPTED = {130, -signal.SIGINT}  # the latter is how Python itself ends on a KeyboardInterrupt; shells say 130
EXPECTED = {
    "interrupted": INTERRUPTED,
    "terminated": {143},
    "interrupted twice": INTERRUPTED,
    "killed": {-signal.SIGKILL},
}


@dataclasses.dataclass
class Findings:
    """Losses and leftovers, in words, and figures on the way."""

    lost: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)
    events: Counter[str] = dataclasses.field(default_factory=Counter)
    repeated: int = 0
    updates: int = 0
    growth: list[float] = dataclasses.field(default_factory=list)


class Soak:
    """A run, and the failures that it is put through.

    Args:
        folder: its own, for programs, compiled ones and logs.
        run_dir: its directory, on a file system of `ROOM` bytes if `small`.
    """

    def __init__(self, folder: Path, run_dir: Path, *, small: bool, dice: random.Random) -> None:
        self.folder, self.run_dir, self.small, self.dice = folder, run_dir, small, dice
        self.findings = Findings()
        self.log = (folder / "output.txt").open("ab")
        self._newest = 0

    def round(self) -> None:
        """Trains for a while, does something to it, and looks at what remains."""
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"), "SOAK": str(os.getpid())}
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self.run_dir), str(SAVE_INTERVAL)],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        before = self.update()
        deadline = time.monotonic() + 60
        while self.update() <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        at_first = memory_of(process.pid)
        if self.dice.random() < 0.5:
            self.lose_a_worker(process.pid)
        if self.small and self.dice.random() < 0.5:
            self.fill_the_disk()
        time.sleep(self.dice.uniform(0.0, 5.0))
        at_last = memory_of(process.pid)
        if at_first and at_last:
            self.findings.growth.append((at_last - at_first) / 2**20)
        self.end(process)
        self.look(before)

    def lose_a_worker(self, parent: int) -> None:
        for pid in descendants(parent):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.findings.events["a worker was killed"] += 1

    def fill_the_disk(self) -> None:
        ballast = self.run_dir.parent / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**20))
                file.flush()
        self.findings.events["the disk was full"] += 1
        time.sleep(self.dice.uniform(0.5, 2.0))
        ballast.unlink()

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends it one way or another."""
        if process.poll() is not None:
            self.findings.events["too many failures ended it"] += 1
            if process.returncode != 1:
                self.findings.lost.append(f"it ended by itself with status {process.returncode}")
            return
        how = self.dice.choice(list(EXPECTED))
        send: dict[str, Callable[[], None]] = {
            "interrupted": lambda: process.send_signal(signal.SIGINT),
            "terminated": lambda: process.send_signal(signal.SIGTERM),
            "killed": process.kill,
        }
        if how == "interrupted twice":
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        else:
            send[how]()
        self.findings.events[f"it was {how}"] += 1
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            self.findings.lost.append(f"it didn't end within 60 s of being {how}")
            process.kill()
            process.wait()
            return
        if status not in EXPECTED[how] | {1}:  # 1: its environments had failed too often just then
            self.findings.lost.append(f"it ended with status {status} when it was {how}")

    def update(self) -> int:
        """The update of the newest checkpoint."""
        try:
            return int(checkpoint.newest(self.run_dir).stem)
        except ValueError:
            return 0

    def look(self, before: int) -> None:
        """Checks the files, as they must be after every end."""
        lost = self.findings.lost
        with contextlib.suppress(FileNotFoundError):
            rows = list(csv.DictReader((self.run_dir / "progress.csv").open()))
            logged = [int(row["misc/nupdates"]) for row in rows]
            if logged != list(range(1, len(logged) + 1)):
                lost.append(f"progress.csv has gaps or rows twice: {logged}")
            self.findings.repeated += max(0, len(logged) - self.update())
        if self.update() < before:
            lost.append(f"the newest checkpoint went from {before} back to {self.update()}")
        if self.update():
            saved = checkpoint.load(self.run_dir)
            episodes = sum(1 for _ in (self.run_dir / "monitor.csv").open()) - 2
            if episodes < saved.metadata["run"]["episodes"]:
                lost.append(f"monitor.csv has {episodes} episodes, fewer than checkpoint {self.update()} tells of")
        self.findings.updates = self.update()
        time.sleep(0.5)
        self.findings.left += [f"process {pid}" for pid in marked()]
        shared = Path("/dev/shm")
        if shared.is_dir():
            self.findings.left += [str(file) for file in shared.glob("*ppo2*")]


def memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def descendants(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def marked() -> list[int]:
    """Processes that a round started, and that outlived it."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            own = int(environ.parent.name) == os.getpid()
            if not own and f"SOAK={os.getpid()}".encode() in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return found


@contextlib.contextmanager
def small_file_system(folder: Path):
    """A folder with room for `ROOM` bytes, where we may mount one; else the folder. And which of the two."""
    mounted = (
        shutil.which("mount") is not None
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "ppo2-soak", str(folder)], stderr=subprocess.DEVNULL
        ).returncode
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (10)")
    parser.add_argument("--seed", type=int, default=0, help="of what is done when (0)")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="ppo2-soak-") as name:
        folder = Path(name)
        (folder / "small").mkdir()
        with small_file_system(folder / "small") as small:
            soak = Soak(folder, folder / "small" / "run", small=small, dice=random.Random(arguments.seed))
            until, rounds = time.monotonic() + 60 * arguments.minutes, 0
            handles = len(os.listdir("/proc/self/fd"))
            while time.monotonic() < until:
                soak.round()
                rounds += 1
                console.print(f"round {rounds}: update {soak.findings.updates}", highlight=False)
            handles = len(os.listdir("/proc/self/fd")) - handles
            findings = soak.findings
            soak.log.close()
            output = (folder / "output.txt").read_text(errors="replace")
    table = Table("what", "count", title=f"{rounds} rounds in {arguments.minutes:g} minutes, seed {arguments.seed}")
    for event, count in sorted(findings.events.items()):
        table.add_row(event, str(count))
    table.add_row("environments raised", str(output.count("soak: an environment raises")))
    table.add_row("updates made and kept", str(findings.updates))
    table.add_row("updates made again", str(findings.repeated))
    growth = sorted(findings.growth)
    middle = f"{growth[len(growth) // 2]:.1f} MB" if growth else "-"
    table.add_row("memory a process grew by, median of rounds", middle)
    table.add_row("file handles left here", str(handles))
    table.add_row("left behind", "\n".join(findings.left) or "nothing")
    table.add_row("lost", "\n".join(findings.lost) or "nothing", style="red" if findings.lost else "green")
    console.print(table)
    if findings.lost or findings.left:
        console.print(output[-4000:], markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
