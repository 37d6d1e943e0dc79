"""The workers of a vector environment: which of its environments each one steps, over shared memory.

A worker steps a slice of every group. `start` starts a step, which `finish` must end. `ask` calls a method of
`WorkerEnvs` with an argument for each group, and gives each environment `patience` times the seconds of a step;
`answers` waits for what it returns.
"""

import functools
import itertools
import mmap
import operator
import os
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ppo2.config.info_keys import end_keys
from ppo2.envs.host import registrations
from ppo2.envs.host.buffers import ALIGNED, Spaces, buffers_in, control_rows_in, open_memory
from ppo2.envs.host.env_types import AnyEnv, Factory, time_limit_of, traits_of
from ppo2.envs.host.identity import check_distinct
from ppo2.envs.host.outcome import PLAIN, StepOutcome
from ppo2.envs.host.process_worker import ProcessWorker, WorkerLostError
from ppo2.envs.host.watchdog import Watchdog
from ppo2.envs.host.worker_envs import WorkerEnvs
from ppo2.envs.host.worker_loop import WorkerSetup, answer_request
from ppo2.system.processors import own_processors
from ppo2.system.text import say_error


class LocalWorker:
    """A worker in this process, which steps its environments, some of each group, when it is asked to finish."""

    def __init__(self, groups: Sequence[WorkerEnvs], timeout: float) -> None:
        self.groups = groups
        self._timeout = timeout
        self._watchdog = Watchdog(timeout)
        self._full = False
        for envs in groups:
            envs.current = self._watchdog.current

    def start(self, group: int, *, full: bool = False) -> None:
        self._full = full

    def finish(self, group: int) -> StepOutcome:
        self._watchdog.begin()  # not `with`, which takes longer
        try:
            return self.groups[group].step(full=self._full)
        finally:
            self._watchdog.busy = False

    def ask(self, method: str, arguments: Mapping[int, Any], patience: float = 1.0) -> None:
        self._watchdog.timeout = self._timeout * patience
        try:
            with self._watchdog:
                self._answers = answer_request(self.groups, method, arguments)
        finally:
            self._watchdog.timeout = self._timeout

    def answers(self) -> dict[int, Any]:
        return self._answers

    def make_ready(self) -> None:
        pass

    def close(self) -> None:
        self._watchdog.closed = True
        for envs in self.groups:
            envs.close()


Worker: TypeAlias = LocalWorker | ProcessWorker


class WorkerPool:
    """Workers that step consecutive slices, as equal as can be, of each group of environments.

    This process is the first worker, unless there are two groups and processes.

    Args:
        groups: indices of each group's environments.
        processes: number of worker processes.
        factories, timeout, info_keys, owned: see `HostVectorEnv`.

    Attributes:
        buffers, group_buffers: buffers of all environments, and of each group.
        spaces, metadata, render_mode, max_episode_steps: the same for each environment.

    Raises:
        ContractError, TypeError: see `WorkerEnvs`.
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
        self._how: dict[str, Any] = {"info_keys": info_keys, "owned": owned}
        is_local = len(groups) == 1 or not processes
        parts = [split_evenly(rows, processes + is_local) for rows in groups]
        self._rows = [list(rows) for rows in zip(*parts, strict=True)]
        """Indices of each worker's environments, for each group."""
        pattern = self._make_envs(self._rows[0][0] if is_local else slice(0, 1), None)
        self.spaces = pattern.spaces
        self.metadata, self.render_mode = pattern.envs[0].metadata, pattern.envs[0].render_mode
        self.max_episode_steps = traits_of(factories[0]).max_episode_steps or time_limit_of(pattern.envs[0])
        what = (self.spaces, len(factories), len(end_keys(info_keys)))
        size = buffers_in(None, *what)[1]
        memory_size = size + processes * ALIGNED
        descriptor = open_memory(memory_size) if processes else -1
        memory = mmap.mmap(descriptor, memory_size)
        self.buffers, _ = buffers_in(memory, *what)
        self.group_buffers = [self.buffers.rows(rows) for rows in groups]
        self.workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, _close, self.workers, descriptor)
        if is_local:
            self.workers.append(self._local_worker(self._rows[0], pattern))
        else:
            pattern.close()
        environments = registrations.registered() if processes else {}
        for number, rows in enumerate(self._rows[len(self.workers) :]):
            setup = WorkerSetup(
                factories=[self._factories[part] for part in rows],
                rows=rows,
                spaces=self.spaces,
                num_envs=len(factories),
                descriptor=descriptor,
                size=memory_size,
                worker=number,
                spin=processes + 1 <= own_processors(),
                info_keys=info_keys,
                argv=sys.argv,
                environments=environments,
            )
            self.workers.append(ProcessWorker(setup, self.buffers, control_rows_in(memory, size)[number], timeout))

    def _make_envs(self, rows: slice, expected: Spaces | None) -> WorkerEnvs:
        return WorkerEnvs(self._factories[rows], first=rows.start, expected=expected, **self._how)

    def _local_worker(self, rows: Sequence[slice], *made: WorkerEnvs) -> LocalWorker:
        """A worker with environments of such indices; those of the first groups may be made already."""
        groups = [*made, *(self._make_envs(part, self.spaces) for part in rows[len(made) :])]
        check_distinct(env for envs in groups for env in envs.envs)
        for envs, part in zip(groups, rows, strict=True):
            envs.attach(self.buffers.rows(part))
        return LocalWorker(groups, self._timeout)

    @property
    def local_envs(self) -> list[AnyEnv]:
        """Environments that this process steps."""
        local = [worker for worker in self.workers if isinstance(worker, LocalWorker)]
        return [env for worker in local for envs in worker.groups for env in envs.envs]

    def start(self, group: int, *, full: bool = False) -> None:
        """Starts a step of a group, with the actions in the buffers; see `WorkerEnvs.step`."""
        for worker in self.workers:
            worker.start(group, full=full)

    def finish(self, group: int) -> StepOutcome:
        """Waits for the end of a group's step.

        Raises:
            Exception: the first error that isn't an environment's failure, after all workers have finished.
        """
        if len(self.workers) == 1:
            return self.workers[0].finish(group)
        outcomes: list[StepOutcome] = []
        errors: list[Exception] = []
        for worker in self.workers:  # this process first: the others are busy meanwhile
            try:
                outcomes.append(worker.finish(group))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if all(outcome is PLAIN for outcome in outcomes):
            return PLAIN
        flags, failures, infos = zip(*outcomes, strict=True)
        joined = functools.reduce(operator.or_, flags)
        return StepOutcome(joined, [*itertools.chain(*failures)], [*itertools.chain(*infos)])

    def ask(self, method: str, argument: Callable[[slice], Any], patience: float = 1.0) -> dict[int, Any]:
        """Calls a method of all `WorkerEnvs`, with an argument for each one's indices of environments.

        Returns:
            The answers, by the index of the first environment, in the order of these.

        Raises:
            Exception: the first error, after all have answered.
        """
        pairs = [*zip(self.workers, self._rows, strict=True)]
        answers, errors = dict[int, Any](), dict[int, Exception]()
        for number, (worker, rows) in reversed([*enumerate(pairs)]):  # the processes first
            try:
                worker.ask(method, {group: argument(part) for group, part in enumerate(rows)}, patience)
            except Exception as error:
                errors[number] = error
        for number, (worker, rows) in enumerate(pairs):
            try:
                if number not in errors:
                    answers |= {rows[group].start: answer for group, answer in worker.answers().items()}
            except Exception as error:
                errors[number] = error
        if errors:
            raise errors[min(errors)]
        return dict(sorted(answers.items()))

    def make_ready(self) -> None:
        """Waits for workers to start, and for what was broken off; takes over from those that could not start."""
        for i, worker in enumerate(self.workers):
            try:
                worker.make_ready()
            except WorkerLostError as lost:
                say_error(f"{lost}, so that this process steps them itself.")
                worker.close()
                self.workers[i] = self._local_worker(self._rows[i])

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
