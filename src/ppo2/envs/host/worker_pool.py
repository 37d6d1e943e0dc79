"""The workers of a vector environment: which of its environments each one steps, over shared memory.

A worker steps a slice of every group. `start` starts a step, which `finish` must end; `ask` makes one of `REQUESTS`,
for which each environment may take `patience` times as long as for a step, and `answer` waits for the answer.
"""

import itertools
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from ppo2.envs.host.buffers import ALIGNED, buffers_in, control_rows_in, open_memory
from ppo2.envs.host.env_types import AnyEnv, Factory, NDArray
from ppo2.envs.host.failures import EnvFailure
from ppo2.envs.host.process_worker import ProcessWorker, WorkerLostError
from ppo2.envs.host.serial_envs import SerialEnvs, StepOutcome
from ppo2.envs.host.watchdog import WATCHDOG, StepWatch
from ppo2.envs.host.worker_loop import REQUESTS, WorkerSetup
from ppo2.system.processors import usable_processors
from ppo2.system.text import printable


class LocalWorker:
    """A worker in this process, which steps its environments when it is asked to finish.

    Args:
        groups: its environments of each group.
        timeout: seconds that a step or reset of one environment may take; see `Watchdog`.
    """

    def __init__(self, groups: Sequence[SerialEnvs], timeout: float) -> None:
        self.groups = groups
        self._actions: list[Iterable[Any] | None] = [None] * len(groups)
        self._answers: list[Any] = [None] * len(groups)
        self._timeout = timeout
        self._watch = StepWatch(timeout)
        for envs in groups:
            envs.current = self._watch.current
        WATCHDOG.add(self._watch)

    def start(self, group: int, actions: Iterable[Any] | None = None) -> None:
        """Starts a step with actions one by one; None: those in the buffers."""
        self._actions[group] = actions

    def finish(self, group: int) -> StepOutcome:
        with self._watch:
            return self.groups[group].step(self._actions[group])

    def ask(self, group: int, request: int, argument: Any, patience: float = 1.0) -> None:
        self._watch.timeout = self._timeout * patience
        try:
            with self._watch:
                self._answers[group] = REQUESTS[request](self.groups[group], argument)
        finally:
            self._watch.timeout = self._timeout

    def answer(self, group: int) -> Any:
        return self._answers[group]

    def close(self) -> None:
        WATCHDOG.remove(self._watch)
        for envs in self.groups:
            envs.close()


Worker: TypeAlias = LocalWorker | ProcessWorker


class WorkerPool:
    """Workers that step consecutive slices, as equal as can be, of each group of environments.

    This process is the first worker, unless there are two groups and processes: then it acts for one group while the
    processes step the other.

    Args:
        factories: each makes one environment.
        groups: indices of each group's environments.
        processes: number of worker processes.
        timeout: seconds that a step or reset of one environment may take.
        info_keys, owned: see `SerialEnvs`.

    Attributes:
        buffers: buffers of all environments.
        group_buffers: buffers of each group.
        observation_space, action_space, metadata, render_mode: as each environment has them.

    Raises:
        ContractError: environments of different spaces.
        TypeError: a space that isn't supported.
    """

    def __init__(
        self,
        factories: Sequence[Factory],
        groups: Sequence[slice],
        processes: int,
        *,
        timeout: float,
        info_keys: tuple[str, ...],
        owned: bool,
    ) -> None:
        self._factories, self._timeout = list(factories), timeout
        self._info_keys, self._owned = info_keys, owned
        local = len(groups) == 1 or not processes
        parts = [split_evenly(rows, processes + local) for rows in groups]
        self._rows = [list(rows) for rows in zip(*parts, strict=True)]
        """Indices of each worker's environments, for each group."""
        mine = [self._make_envs(rows) for rows in self._rows[0]] if local else []
        pattern = mine[0] if local else self._make_envs(slice(0, 1))
        self.observation_space, self.action_space = pattern.observation_space, pattern.action_space
        self.metadata, self.render_mode = pattern.envs[0].metadata, pattern.envs[0].render_mode
        what = ((self.observation_space, self.action_space), len(factories), len(info_keys))
        size = buffers_in(None, *what)[1]
        memory_size = size + processes * ALIGNED
        descriptor = open_memory(memory_size) if processes else -1
        memory = mmap.mmap(descriptor, memory_size)
        self.buffers, _ = buffers_in(memory, *what)
        self.group_buffers = [self.buffers.rows(rows) for rows in groups]
        self.workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, _close, self.workers, descriptor)
        if local:
            self.workers.append(self._local_worker(mine, self._rows[0]))
        else:
            pattern.close()
        try:
            self._start_processes(descriptor, memory_size, control_rows_in(memory, size))
        except BaseException:
            self.close()
            raise

    def _start_processes(self, descriptor: int, size: int, control: NDArray) -> None:
        """Starts the worker processes, whose environments are there when they are first needed."""
        process_rows = self._rows[len(self.workers) :]
        for number, rows in enumerate(process_rows):
            setup = WorkerSetup(
                factories=[self._factories[part] for part in rows],
                rows=rows,
                spaces=(self.observation_space, self.action_space),
                num_envs=len(self._factories),
                descriptor=descriptor,
                size=size,
                worker=number,
                spin=len(process_rows) + 1 <= usable_processors(),
                info_keys=self._info_keys,
                argv=sys.argv,
            )
            try:
                self.workers.append(ProcessWorker(setup, self.buffers, control[number], self._timeout))
            except WorkerLostError as lost:
                self.workers.append(self._stand_in(rows, lost))

    def _make_envs(self, rows: slice) -> SerialEnvs:
        return SerialEnvs(self._factories[rows], first=rows.start, info_keys=self._info_keys, owned=self._owned)

    def _local_worker(self, groups: Sequence[SerialEnvs], rows: Sequence[slice]) -> LocalWorker:
        for envs, part in zip(groups, rows, strict=True):
            envs.attach(self.buffers.rows(part))
        return LocalWorker(groups, self._timeout)

    def _stand_in(self, rows: Sequence[slice], lost: WorkerLostError) -> LocalWorker:
        """Makes the environments of a process that could not start in this one."""
        print(f"ppo2: {printable(lost)}, so that this process steps them itself.", file=sys.stderr)
        return self._local_worker([self._make_envs(part) for part in rows], rows)

    @property
    def is_alone(self) -> bool:
        """True if this process steps all environments at once."""
        return len(self.workers) == 1 and isinstance(self.workers[0], LocalWorker)

    @property
    def processes(self) -> int:
        """Number of worker processes."""
        return sum(isinstance(worker, ProcessWorker) for worker in self.workers)

    @property
    def local_envs(self) -> list[AnyEnv]:
        """Environments that this process steps."""
        local = [worker for worker in self.workers if isinstance(worker, LocalWorker)]
        return [env for worker in local for envs in worker.groups for env in envs.envs]

    def start(self, group: int, actions: Iterable[Any] | None = None) -> None:
        """Starts a step of a group.

        Args:
            actions: one by one, where this process is alone; None: those in the buffers.
        """
        for worker in reversed(self.workers):  # the processes first
            worker.start(group, actions)

    def finish(self, group: int) -> StepOutcome:
        """Waits for the end of a group's step.

        Raises:
            Exception: the first error that isn't an environment's failure, after all workers have finished.
        """
        if self.is_alone:
            return self.workers[0].finish(group)
        ended, failures = False, list[EnvFailure]()
        error: Exception | None = None
        for worker in self.workers:  # this process first: the others are busy meanwhile
            try:
                result = worker.finish(group)
            except Exception as raised:
                error = error or raised
                continue
            ended |= result.ended
            failures += result.failures
        if error is not None:
            raise error
        return StepOutcome(ended, failures)

    def ask(self, request: int, argument: Callable[[slice], Any], patience: float = 1.0) -> dict[int, Any]:
        """Makes a request to all workers, for all groups.

        Args:
            argument: gives the request's argument for the environments of such indices.

        Returns:
            The answers, by the index of their first environment.
        """
        pairs = [*zip(self.workers, self._rows, strict=True)]
        for worker, rows in reversed(pairs):
            for group, part in enumerate(rows):
                worker.ask(group, request, argument(part), patience)
        return {part.start: worker.answer(group) for worker, rows in pairs for group, part in enumerate(rows)}

    def make_ready(self) -> None:
        """Waits for workers to start, and for what was broken off; takes over from those that could not start."""
        for i, worker in enumerate(self.workers):
            if isinstance(worker, ProcessWorker):
                try:
                    worker.wait_until_ready()
                    worker.drain()
                except WorkerLostError as lost:
                    worker.close()
                    self.workers[i] = self._stand_in(self._rows[i], lost)

    def close(self) -> None:
        """Closes all environments and ends the processes."""
        self._finalizer()


def split_evenly(rows: slice, count: int) -> list[slice]:
    """Consecutive parts of rows, as equal as can be."""
    size = rows.stop - rows.start
    cuts = [rows.start + size * i // count for i in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(cuts)]


def _close(workers: list[Worker], descriptor: int) -> None:
    for worker in workers:
        worker.close()
    if descriptor >= 0:
        os.close(descriptor)
