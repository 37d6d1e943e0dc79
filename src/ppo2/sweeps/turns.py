"""The runs of a sweep in this process, one after another, and the choice between that and processes side by side."""

import functools
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ppo2 import distributed
from ppo2.agent.model import Model
from ppo2.envs import adapters
from ppo2.envs.host.vec_env import is_made
from ppo2.sweeps.messages import NewReturns, called_exit, obstacle, train
from ppo2.sweeps.plan import SweepRun
from ppo2.sweeps.screen import SweepScreen
from ppo2.system import launch, processors
from ppo2.system.signals import StopSignals, signal_of
from ppo2.system.whole_numbers import is_whole

Parallel: TypeAlias = int | Literal["auto"]
BACKENDS = ("local", "ray")


def train_in_turn(env: Any, runs: Sequence[SweepRun], screen: SweepScreen, stop: StopSignals) -> None:
    """Trains one run after another; those that come after a stop stay untrained."""
    for run in runs:
        if stop.received is not None:
            return
        run.status = "running"
        try:
            train(env, run.run_dir, run.settings, functools.partial(_record, run, screen, NewReturns(run.episodes)))
            run.status = "finished"
        except (KeyboardInterrupt, SystemExit) as stopped:  # learn has heard the signal, and finished its update
            stop.received, run.status = signal_of(stopped), "stopped"
            if stop.received is None:
                _fail(run, called_exit(stopped), screen)
        except Exception as error:
            _fail(run, error, screen)


def _fail(run: SweepRun, error: Exception, screen: SweepScreen) -> None:
    run.fail(error, "".join(traceback.format_exception(error)))
    screen.say_failure(run)


def _record(run: SweepRun, screen: SweepScreen, returns: NewReturns, update: int, model: Model, stats: Any) -> bool:
    """Keeps the model as it is now, and its returns: an `update_fn`."""
    run.model = model
    screen.tick(1)
    if run.record(update, returns(stats)):
        screen.show()
    return not run.given_up


def check_one_process(what: str) -> None:
    """Raises ValueError where several processes would each start what one starts."""
    if launch.detected().size > 1 or distributed.world().size > 1:
        raise ValueError(
            f"a {what} is started by one process, and this is one of several: start one, or set PPO2_ALONE=1 for each "
            f"to make a {what} of its own (with another `run_dir`, and without ppo2.distributed.init)."
        )


def checked_parallel(parallel: Any, backend: Any) -> Parallel:
    """`parallel`, a number as Python's own.

    Raises:
        ValueError: `parallel` or `backend` is none that there is.
    """
    if parallel != "auto" and (not is_whole(parallel) or parallel < 1):
        raise ValueError(
            f"`parallel` (={parallel!r}) must be 'auto', or the number of runs that train at a time: a whole number of "
            "at least 1, which trains one after another."
        )
    if backend not in BACKENDS:
        raise ValueError(f"`backend` (={backend!r}) must be 'local', for processes of this machine, or 'ray'.")
    return int(parallel) if is_whole(parallel) else "auto"


def check_together(parallel: Parallel, backend: str, log: Sequence[str] = (), video_interval: int = 0) -> None:
    """Raises ValueError where runs on a device environment are asked to be trained, logged or filmed apart."""
    if video_interval:
        raise ValueError(
            f"`video_interval` (={video_interval!r}) is for runs that train by themselves: on a device environment all "
            "train in one program. Leave it out, and film a model afterwards (ppo2.play)."
        )
    if log:
        raise ValueError(
            f"`log` (={log!r}) is for runs that train by themselves: on a device environment all train in one program, "
            "whose result is the table. Leave it out."
        )
    for name, value, default in (("parallel", parallel, "auto"), ("backend", backend, "local")):
        if value != default:
            raise ValueError(
                f"`{name}` (={value!r}) is for environments of the host: runs on a device environment train together, "
                "in one program, on all devices. Leave it out."
            )


def kwargs_to_look_at(env: Any, env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of the environment that shows the spaces of all runs, which is one, in this process.

    Raises:
        ValueError: Ray's actors are asked to step environments.
    """
    kwargs = dict(env_kwargs or {})
    on_device = isinstance(env, str) and adapters.adapter_of(env) is not None
    if not on_device and kwargs.get("backend", "local") != "local":
        raise ValueError(
            f"`env_kwargs` (={kwargs!r}): a sweep's runs step their environments themselves; sweep(backend='ray') has "
            "actors train whole runs."
        )
    return {name: value for name, value in kwargs.items() if name not in ("workers", "groups")}


def may_need_processes(parallel: Parallel, backend: str, env: Any, runs: int) -> int:
    """The number of processes that train so many runs side by side, as far as the arguments tell; 0 for none.

    "auto": one for each processor that this process may use, and whose time its container may.
    """
    is_known = is_made(env) or adapters.is_on_device(env)
    if backend != "local" or is_known or sys.platform == "win32":
        return 0
    there = min(processors.usable_processors(), processors.quota() or sys.maxsize)
    count = min(there if parallel == "auto" else parallel, runs)
    return count if count > 1 else 0


def how_to_train(parallel: Parallel, backend: str, env: Any, runs: Sequence[SweepRun], count: int) -> tuple[int, str]:
    """The number of processes that train these runs side by side, 1 for this process alone, and a line about it.

    Args:
        count: see `may_need_processes`.

    Raises:
        ValueError: several were asked for, and other processes can't train these runs.
    """
    if backend == "ray":
        if reason := why_not_elsewhere(env, runs, on_cluster=True):
            raise ValueError(f"`backend` (='ray'): {reason}. Without `backend` runs train in this process.")
        return 1, "parallel  runs train in actors of Ray"
    if len(runs) < 2 or parallel == 1:
        return 1, ""
    reason = why_not_elsewhere(env, runs)
    if reason is None and count:
        count = min(count, len(runs))
        return count, f"parallel  {count} runs at a time, each in a process of its own"
    if reason is not None and parallel != "auto":
        raise ValueError(f"`parallel` (={parallel}): {reason}. Without `parallel` runs train one after another.")
    return 1, "" if reason is None else f"parallel  runs train one after another: {reason}"


def why_not_elsewhere(env: Any, runs: Sequence[SweepRun], *, on_cluster: bool = False) -> str | None:
    """The reason why other processes can't train these runs, with the remedy; None if they can."""
    if is_made(env):
        return "`env` is an environment that exists, and there is one of it: give its id, or a function that makes it"
    if sys.platform == "win32" and not on_cluster:
        return "Windows can't hand descriptors to the processes"
    kinds = {kind for run in runs for kind in run.model.placement.saved().values()}
    if kinds != {"cpu"} and not on_cluster:
        return f"they learn on the {' and the '.join(kind.upper() for kind in sorted(kinds))}, of which there is one"
    return obstacle(env, [run.settings for run in runs])
