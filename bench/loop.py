"""Cost of the loop around a step: what collecting a rollout takes in Python beyond the environments' own `step`.

    python bench/loop.py                            # this tree
    python bench/loop.py --trees BEFORE/src src     # two trees, process after process, by turns

The environment does nothing (its `step` returns what it always returns) and so does the policy, so that what is left is
the loop: `Runner`, its buffers, `Stepper`, the vector environment. Reported are microseconds for a vector step, medians
over rollouts of `--nsteps`, without the time of the environments' `step`, and how many functions are called: in Python,
and in C. `cheetah` has HalfCheetah's spaces, with observations of 64 bits that are normalised.

An idle machine is up to you; `chrt --rr 1 taskset -c 1` before the command helps.
"""

import argparse
import collections
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CASES = {"discrete": (4, "float32"), "box": (4, "float32"), "cheetah": (17, "float64")}
"""Numbers of an observation and their dtype."""
COUNTS = (1, 8)
"""Numbers of environments."""

Rows = dict[str, list[list[float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nsteps", type=int, default=2048)
    parser.add_argument("--rollouts", type=int, default=9, help="rollouts of each case in a process")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each tree")
    parser.add_argument("--trees", nargs="+", default=[None], help="folders that hold the package ppo2")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a process of the rounds
    options = parser.parse_args()
    if options.one:
        print(json.dumps(dict(measured(options.nsteps, options.rollouts))))
        return
    found: dict[str | None, Rows] = {tree: collections.defaultdict(list) for tree in options.trees}
    for _ in range(options.rounds):
        for tree in options.trees:
            for case, figures in in_process(tree, options.nsteps, options.rollouts).items():
                found[tree][case].append(figures)
    for tree, cases in found.items():
        print(f"{tree or 'this tree'}: microseconds per vector step, per step; calls per vector step")
        for case, rows in cases.items():
            seconds, python, native = zip(*rows, strict=True)
            micro = [1e6 * one for one in seconds]
            median, count = statistics.median(micro), int(case.split()[0])
            spread = f"({min(micro):.1f} to {max(micro):.1f})"
            calls = f"{python[0]:5.1f} Python {native[0]:5.1f} C"
            print(f"  {case:12}{median:6.1f} {spread:17}{median / count:6.2f}   {calls}")


def in_process(tree: str | None, nsteps: int, rollouts: int) -> dict[str, list[float]]:
    """Figures of `measured` in a fresh process with a source tree."""
    environment = dict(os.environ) if tree is None else {**os.environ, "PYTHONPATH": str(Path(tree).resolve())}
    command = [sys.executable, __file__, "--one", "--nsteps", str(nsteps), "--rollouts", str(rollouts)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measured(nsteps: int, rollouts: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """By case: seconds of a vector step, calls of functions in Python and in C."""
    for count in COUNTS:
        for case in CASES:
            collect, env = collector(case, count, nsteps)
            collect()
            alone = seconds_of_steps(env)
            seconds = statistics.median(seconds_of(collect) for _ in range(rollouts)) / nsteps - count * alone
            python, native = (calls / nsteps for calls in calls_of(collect))
            yield f"{count} {case}", (seconds, python - count, native)


def seconds_of(call: Any) -> float:
    """Seconds that `call` says it took."""
    seconds: float = call()
    return seconds


def seconds_of_steps(env: Any, steps: int = 100_000) -> float:
    """Seconds of a step of the environment that does nothing."""
    began = time.perf_counter()
    for _ in range(steps):
        env.step(0)
    return (time.perf_counter() - began) / steps


def calls_of(call: Any) -> tuple[int, int]:
    """Calls of functions in Python and in C."""
    counts: collections.Counter[str] = collections.Counter()
    sys.setprofile(lambda _frame, event, _argument: counts.update((event,)))
    try:
        call()
    finally:
        sys.setprofile(None)
    return counts["call"], counts["c_call"]


def collector(case: str, count: int, nsteps: int) -> tuple[Any, Any]:
    """A function that collects a rollout and returns the seconds of its steps; and one of its environments."""
    import numpy as np
    from gymnasium import Env, spaces

    from ppo2.agent.model import Model
    from ppo2.agent.policy import build_policy
    from ppo2.config import Config
    from ppo2.envs.host.vector import HostVectorEnv
    from ppo2.numerics.randomness import root_key
    from ppo2.runners import host

    size, dtype = CASES[case]

    class Still(Env[Any, Any]):
        observation_space = spaces.Box(-np.inf, np.inf, (size,), np.dtype(dtype).type)
        action_space: Any = spaces.Discrete(2) if case == "discrete" else spaces.Box(-1.0, 1.0, (6,))

        def __init__(self) -> None:
            self.obs = np.zeros(size, dtype)
            self.returned: Any = (self.obs, 1.0, False, False, {})

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return self.obs, {}

        def step(self, action: Any) -> Any:
            return self.returned

    vector = HostVectorEnv([Still] * count, copy=False)
    config = Config(num_envs=count, nsteps=nsteps, nminibatches=1, normalize_obs=case == "cheetah")
    parts = (vector.single_observation_space, vector.single_action_space)
    policy = build_policy(*parts, network="mlp", network_kwargs={}, value_network="copy", key=root_key(0))
    model = Model(policy=policy, config=config, key=root_key(0))
    shape = (count, *model.distribution.action.shape)
    actions = np.zeros(shape, model.distribution.action.dtype)
    vars(host)["act_program"] = lambda _model: lambda *_of: (actions, None)
    runner = host.Runner(env=vector, model=model, nsteps=nsteps, gamma=0.99, lam=0.95)

    def collect() -> float:
        runner.run()
        return sum(runner.seconds)

    return collect, vector.envs[0]


if __name__ == "__main__":
    main()
