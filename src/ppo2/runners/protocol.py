"""The protocol of runners, whatever steps their environments."""

from typing import Any, NamedTuple, Protocol

from ppo2.algorithm.rollout import Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.numerics.compilation import Aside
from ppo2.numerics.sharding import DataAxis
from ppo2.runners.episodes import Ended
from ppo2.runners.snapshot import Snapshot


class Seconds(NamedTuple):
    """The seconds that the parts of a rollout took."""

    act: float
    step: float


class RolloutRunner(Protocol):
    """Collects rollouts.

    Attributes:
        rollouts: number of rollouts so far, those of earlier processes of the run included.
        axis: the devices that its rollouts lie on.
        info_keys: entries of `info` that were asked for, to be recorded at episodes' ends.
    """

    rollouts: int
    axis: DataAxis
    info_keys: tuple[str, ...]

    @property
    def layout(self) -> dict[str, int]:
        """The division of the environments, on which the last bits of the results depend. Saved with the run."""

    def run(self, steps: int | None = None) -> Rollout:
        """The next `nsteps` steps of every environment, or so many."""

    def mark_learned(self) -> None:
        """Says that the last rollout was learned from: a snapshot is of the moment after it."""

    def ended(self) -> Ended:
        """The episodes that ended since the last call, in order."""

    def start_clock(self, seconds: float) -> None:
        """Sets the instant (of `time.perf_counter`) from which episodes' times count."""

    def snapshot(self) -> Snapshot:
        """Environments and episodes as they were after the last rollout that was learned from."""

    def resume(self, saved: Checkpoint) -> list[str]:
        """Brings the environments to where a snapshot left them. Returns a line for each thing that differs."""


class HostRunner(RolloutRunner, Protocol):
    """A runner whose rollouts are collected apart from learning.

    Attributes:
        seconds: times of the last rollout.
    """

    seconds: Seconds

    def prepare(self, aside: Aside) -> Any:
        """Has the programs that collect a rollout compiled. Returns the shapes of the rollout; None where nothing is
        known of it beforehand.
        """
