"""Stopping on signals. In this process where one signal is enough; in a process of its own where it ends at once."""

import asyncio
import builtins
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

import ppo2
from ppo2.system.signals import SIGNALS, Interrupted, StopSignals, raise_for
from support.device_envs import Unending
from support.environments import Script

SMALL: dict[str, Any] = {
    "env": Script,
    "total_timesteps": 10 * 64,
    "num_envs": 4,
    "nsteps": 16,
    "num_hidden": 8,
    "seed": 7,
    "log_interval": 1,
}
MEANING = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, handlers, the wakeup descriptor and threads are as before. One signal right after another
    is a second one.
    """
    monkeypatch.setattr("ppo2.system.signals.SAME_SECONDS", 1e-6)
    before, threads = handlers(), {thread.name for thread in threading.enumerate()}
    yield
    assert handlers() == before
    descriptor = signal.set_wakeup_fd(-1)
    assert descriptor == -1
    assert "ppo2-signals" not in {thread.name for thread in threading.enumerate()} - threads


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def entered(do: Callable[[StopSignals], None], **how: Any) -> None:
    with StopSignals(**how) as stop:
        do(stop)


# --- noting and raising


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_only_noted(number: int) -> None:
    with StopSignals() as stop:
        assert stop.received is None
        send(number)
        assert stop.received == number


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in SIGNALS for b in SIGNALS])
def test_a_second_signal_stops_at_once(first: int, second: Any) -> None:
    def twice(stop: StopSignals) -> None:
        send(first)
        assert stop.received == first
        send(second)
        pytest.fail("it goes on")

    with pytest.raises(MEANING[second]) as raised:
        entered(twice)
    assert not isinstance(raised.value, Interrupted)
    if isinstance(raised.value, SystemExit):
        assert raised.value.code == 143


def test_a_signal_that_is_passed_on_as_well_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script may hand SIGTERM on to this process, which got it from the scheduler already."""
    monkeypatch.setattr("ppo2.system.signals.SAME_SECONDS", 5.0)
    with StopSignals() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        time.sleep(0.05)
        assert stop._listener is not None
        assert (stop.received, len(stop._listener.times)) == (signal.SIGTERM, 1)

    def another(_: StopSignals) -> None:
        send(signal.SIGINT)
        send(signal.SIGTERM)

    with pytest.raises(SystemExit):
        entered(another)


def test_where_there_is_nothing_to_lose_the_first_one_does() -> None:
    def once(_: StopSignals) -> None:
        send(signal.SIGINT)
        pytest.fail("it goes on")

    with pytest.raises(KeyboardInterrupt):
        entered(once, patient=False)


def test_a_second_signal_waits_for_what_belongs_together() -> None:
    done = []

    def held(stop: StopSignals) -> None:
        send(signal.SIGTERM)
        with stop.deferred():
            send(signal.SIGTERM)
            done.append("held")
        done.append("more")

    with pytest.raises(SystemExit):
        entered(held)
    assert done == ["held"]


def test_leaving_is_not_broken_off_again() -> None:
    saved = []

    def twice(stop: StopSignals) -> None:
        send(signal.SIGINT)
        try:
            send(signal.SIGINT)
        finally:
            stop._note(signal.SIGINT, None)  # the handler of a signal that came with the second
            saved.append(1)

    with pytest.raises(KeyboardInterrupt):
        entered(twice)
    assert saved == [1]


def test_an_environment_can_not_swallow_it() -> None:
    """SystemExit is an environment's failure, after which it is made anew; a second SIGTERM is not."""
    begun: list[int] = []
    steps: list[int] = []

    class Terminated(Script):
        def step(self, action: Any) -> Any:
            if begun:
                steps.append(1)
                send(signal.SIGTERM)
            return super().step(action)

    with pytest.raises(SystemExit, match="143"):
        ppo2.learn(**{**SMALL, "env": Terminated}, update_fn=begun.append)
    assert len(steps) == 2


# --- putting back


def test_handlers_are_put_back() -> None:
    def handler(*_: Any) -> None:
        raise AssertionError

    usual = signal.signal(signal.SIGTERM, handler)
    before = handlers()
    try:
        with StopSignals():
            assert all(now != then for now, then in zip(handlers(), before, strict=True))
            with StopSignals():  # a `learn` in another's update_fn
                send(signal.SIGTERM)
            inner = handlers()
            with pytest.raises(RuntimeError, match="inside"), StopSignals():
                raise RuntimeError("inside")
            assert handlers() == inner
        assert handlers() == before
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_other_threads_leave_handlers_alone() -> None:
    before, seen = handlers(), []

    def train() -> None:
        with StopSignals() as stop:
            seen.append((stop.received, handlers()))
        ppo2.learn(**{**SMALL, "total_timesteps": 64})
        seen.append("trained")

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [(None, before), "trained"]


def test_whoever_listened_before_still_hears_of_other_signals() -> None:
    mine, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    usual = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with StopSignals():
            send(signal.SIGTERM)
            send(signal.SIGUSR1)
            mine.settimeout(5)
            assert mine.recv(9) == bytes([signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, usual)
        assert signal.set_wakeup_fd(-1) == theirs.fileno()
        mine.close()
        theirs.close()


def test_in_an_event_loop() -> None:
    """In a notebook the loop's own signals come when training is over."""
    heard = []

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.append, "user")
        with StopSignals() as stop:
            send(signal.SIGUSR1)
            send(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())
    assert heard == ["user"]


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_signals_of_a_process_that_was_forked_off_are_its_own() -> None:
    """Such as a worker of Gymnasium's AsyncVectorEnv, made by an environment's factory."""
    with StopSignals() as stop:
        child = os.fork()
        if not child:
            try:
                send(signal.SIGTERM)
            finally:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        time.sleep(0.05)
        assert stop.received is None
        assert stop._listener is not None
        assert len(stop._listener.times) == 0


def test_what_a_signal_means() -> None:
    with pytest.raises(KeyboardInterrupt):
        raise_for(signal.SIGINT)
    with pytest.raises(SystemExit) as stop:
        raise_for(signal.SIGTERM)
    assert stop.value.code == 143


# --- training


def saved(run_dir: Path) -> list[str]:
    return sorted(file.name for file in (run_dir / "checkpoints").glob("*"))


def at(update: int, *numbers: int) -> Callable[[int], None]:
    """An `update_fn` that sends signals."""

    def update_fn(now: int) -> None:
        if now == update:
            for number in numbers:
                send(number)

    return update_fn


@pytest.mark.parametrize(
    ("env", "number"),
    [(Script, signal.SIGINT), (Script, signal.SIGTERM), (Unending(), signal.SIGTERM)],
    ids=["host, SIGINT", "host, SIGTERM", "device"],
)
def test_training_stops_after_the_update_with_a_checkpoint(env: Any, number: Any, tmp_path: Path) -> None:
    with pytest.raises(MEANING[number]):
        ppo2.learn(**{**SMALL, "env": env}, run_dir=tmp_path, update_fn=at(3, number))
    assert saved(tmp_path) == ["00003.safetensors"]
    assert ppo2.load(tmp_path).state.counters.updates == 3


def test_a_second_signal_keeps_what_was_learned_where_there_is_time(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ppo2.learn(**SMALL, run_dir=tmp_path, update_fn=at(3, signal.SIGINT, signal.SIGINT))
    assert saved(tmp_path) == ["00003.safetensors"]


def test_before_the_first_update_nothing_is_waited_for_or_written(tmp_path: Path) -> None:
    """While it is set up, in the rollout that fills the normaliser, and in the first one."""
    steps: list[int] = []

    class Early(Script):
        def step(self, action: Any) -> Any:
            steps.append(1)
            if len(steps) == when:
                send(signal.SIGINT)
            return super().step(action)

    def init_fn() -> None:
        steps.clear()  # those that tried how long one takes
        if not when:
            send(signal.SIGINT)

    for when, more in ((0, {}), (30, {"normalize_obs": True}), (30, {})):
        with pytest.raises(KeyboardInterrupt):
            ppo2.learn(**{**SMALL, "env": Early}, run_dir=tmp_path, init_fn=init_fn, **more)
        assert len(steps) == when
        assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("on_device", [False, True])
def test_an_evaluation_is_broken_off_and_not_told_of(on_device: bool, tmp_path: Path) -> None:
    steps: list[int] = []

    class Endless(Script):
        def step(self, action: Any) -> Any:
            steps.append(1)
            if len(steps) == 20:
                send(signal.SIGTERM)
            return super().step(action)

    def once() -> None:
        if not steps:
            steps.append(1)
            send(signal.SIGTERM)

    class SignalOnDevice(Unending):
        def step(self, *now: Any) -> Any:
            jax.debug.callback(once)
            return super().step(*now)

    eval_env = SignalOnDevice() if on_device else lambda: Endless(10**9)
    with pytest.raises(SystemExit):
        ppo2.learn(**SMALL, eval_env=eval_env, eval_interval=2, init_fn=steps.clear, run_dir=tmp_path)
    assert saved(tmp_path) == ["00001.safetensors"]
    assert "eval_eprewmean" not in (tmp_path / "progress.csv").read_text()
    assert on_device or len(steps) == 24  # the step of all eight is finished


# --- processes that are ended

PROCESS = '''
import os, sys, time
import gymnasium as gym, jax, jax.numpy as jnp, numpy as np
import ppo2, ppo2.system.signals
from ppo2.envs.host.vector import HostVectorEnv

ppo2.system.signals.SETUP_SECONDS = 0.3
ppo2.configure_runtime()
SMALL = dict(num_hidden=8, nsteps=4, seed=0, nminibatches=1, noptepochs=1, progress=True)


def say(*words):
    print("\\n>", *words, flush=True)


class Hangs(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)
    def __init__(self, number):
        self.number, self.t = number, 0
    def reset(self, *, seed=None, options=None):
        return np.zeros(1, "f"), {}
    def step(self, action):
        self.t += 1
        if self.number == 1 and self.t > 8:
            import _ctypes, ctypes
            ctypes.PyDLL(None).sleep(1000)  # keeps the interpreter's lock: not even the worker's own threads run
        return np.zeros(1, "f"), 1.0, False, False, {}


class Long:
    """From its second rollout on each takes ever so long, in a compiled program."""
    observation_space, action_space = Hangs.observation_space, Hangs.action_space
    def __init__(self, until):
        self.until = until
    def reset(self, key):
        return jnp.int32(0), jnp.zeros(1)
    def step(self, state, action, key):
        rounds = jnp.where(state < self.until, 1, 2**30)
        x = jax.lax.fori_loop(0, rounds, lambda i, x: jnp.sin(x + i), 0.5)
        return state + 1, jnp.zeros(1) + 1e-9 * x, 1.0, False, False, {}


kind, run_dir = sys.argv[1:]
if kind == "host":
    env = HostVectorEnv([lambda i=i: Hangs(i) for i in range(2)], workers=1)
    def told(update):
        say("worker", env._pool.workers[-1].process.pid, "update", update)
    ppo2.learn(env=env, total_timesteps=800, run_dir=run_dir, update_fn=told, save_interval=1, **SMALL)
else:
    until = 8 if kind == "device" else 0
    told = lambda update: say("update", update)
    init = lambda: say("begins")
    ppo2.learn(
        env=Long(until), num_envs=2, total_timesteps=800, run_dir=run_dir, update_fn=told, init_fn=init,
        save_interval=1, **SMALL
    )
'''


class Trained:
    """A process that trains, on a terminal of its own."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.run_dir = folder / kind
        script = folder / f"{kind}.py"
        script.write_text(PROCESS)
        self.terminal, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, script, kind, self.run_dir],
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def read_until(self, words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            self.text += os.read(self.terminal, 2**16).decode(errors="replace")

    def signalled(self, *numbers: int) -> float:
        """Sends signals, and returns the seconds from the last one to the end of the process."""
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.2)
        began = time.monotonic()
        while self.process.poll() is None:
            assert time.monotonic() < began + 30
            self._read_on()
        self._read_on()
        return time.monotonic() - began

    def _read_on(self) -> None:
        os.set_blocking(self.terminal, False)
        try:
            self.text += os.read(self.terminal, 2**16).decode(errors="replace")
        except (BlockingIOError, OSError):
            time.sleep(0.01)

    def shows_its_cursor(self) -> bool:
        hidden, shown = self.text.rfind("\x1b[?25l"), self.text.rfind("\x1b[?25h")
        return 0 <= hidden < shown


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any) -> Iterator[dict[str, Trained]]:
    """All at the same time, as they do next to nothing."""
    folder = tmp_path_factory.mktemp("stops")
    every = {kind: Trained(kind, folder) for kind in ("host", "device", "compiling")}
    yield every
    for one in every.values():
        one.process.kill()
        one.process.wait()
        os.close(one.terminal)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_two_signals_while_an_environment_hangs(trained: dict[str, Trained]) -> None:
    one = trained["host"]
    one.read_until("update 2")
    worker = int(one.text.rpartition("worker ")[2].split()[0])
    time.sleep(0.5)
    assert one.signalled(signal.SIGTERM, signal.SIGTERM) < 3
    assert one.process.returncode == 143
    assert one.shows_its_cursor()
    assert int(ppo2.load(one.run_dir).state.counters.updates) == 2
    time.sleep(0.2)
    stat = Path(f"/proc/{worker}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    assert not list(Path("/dev/shm").glob("*ppo2*"))


def test_two_signals_while_a_compiled_program_runs(trained: dict[str, Trained]) -> None:
    one = trained["device"]
    one.read_until("update 2")
    time.sleep(0.3)
    assert one.signalled(signal.SIGINT, signal.SIGINT) < 2
    assert one.process.returncode == 130
    assert "ended at once by SIGINT" in one.text
    assert one.shows_its_cursor()
    assert int(ppo2.load(one.run_dir).state.counters.updates) == 2


def test_one_signal_while_the_first_update_is_compiled(trained: dict[str, Trained]) -> None:
    """The first update itself runs for long here, in which Python hears as little as while it is compiled."""
    one = trained["compiling"]
    one.read_until("begins")
    time.sleep(1.5)
    assert one.signalled(signal.SIGTERM) < 3
    assert one.process.returncode == 143
    assert one.shows_its_cursor()
    assert not (one.run_dir / "checkpoints").exists()


def test_a_person_at_the_interpreter_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    monkeypatch.setattr("ppo2.system.signals.HEAR_SECONDS", 0.0)

    def thrice(stop: StopSignals) -> None:
        with stop.deferred():
            for _ in range(3):
                send(signal.SIGINT)
                time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        entered(thrice)
