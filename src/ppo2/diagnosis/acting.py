"""Checks of actions: their bounds, whether they change anything, and the speed of a step."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.repeating import SEEDS, played
from ppo2.diagnosis.subject import Case, named
from ppo2.training.remarks import out_of_reach

STEPS = 60
"""Steps over which two ways of acting are compared."""
ACT_MICROSECONDS = 20.0
"""Microseconds that a small network takes to act for 8 environments, on a CPU of 2026: see `ppo2.runners.acting`."""
SLOW_STEP = 5e-3
"""Seconds of a step from which on the environment decides how long training takes."""


def bounds(case: Case) -> Iterator[Finding]:
    """Bounds of actions, relative to a Gaussian policy that begins around 0 with a standard deviation of 1."""
    name, space = "action bounds", case.facts["action_space"]
    boxes = [part for _, part in named(space) if isinstance(part, gym.spaces.Box)]
    if not boxes:
        return
    found = list(out_of_reach(space))
    for line in found:
        case.facts["squashed"] = all(part.is_bounded() for part in boxes)
        words, _, remedy = line.partition("; ")
        yield Finding(name, "warning", words, remedy)
    if not found:
        low, high = min(part.low.min() for part in boxes), max(part.high.max() for part in boxes)
        yield Finding(name, "ok", f"from {low:.3g} to {high:.3g}: within reach of a policy that begins around 0")


def effect(case: Case) -> Iterator[Finding]:
    """Compares what different actions bring about."""
    name, space = "effect", case.facts["action_space"]
    if case.deterministic is not True or spaces.is_masked(case.facts["observation_space"]):
        yield Finding(name, "skipped", "shows only where the same seed and actions repeat, and without action masks")
        return
    ways = _ways(space)
    traces = [played(case, case.env, SEEDS[0], [way] * STEPS) for way in ways]
    traces.append(played(case, case.env, SEEDS[0], seconds=0.05 * case.subject.seconds))
    shortest = min(len(trace.seen) for trace in traces)
    lengths = {len(trace.seen) for trace in traces if len(trace.seen) <= STEPS}
    alike = all(trace.seen[:shortest] == traces[0].seen[:shortest] for trace in traces)
    if shortest > 1 and alike and len(lengths) <= 1 and len(traces) > 1:
        yield Finding(
            name,
            "warning",
            f"{len(traces)} ways of acting brought about the very same observations and rewards, {shortest - 1} steps "
            "long: actions seem to change nothing",
            "check that `step` uses its argument",
        )
    else:
        yield Finding(name, "ok", "different actions bring about different observations or rewards")


def _ways(space: spaces.AnySpace) -> list[Any]:
    """A few constant actions of a space, far from one another."""
    match space:
        case gym.spaces.Discrete():
            return [space.start + space.dtype.type(i) for i in sorted({0, int(space.n) // 2, int(space.n) - 1})]
        case gym.spaces.MultiDiscrete():
            return [space.start, space.start + space.nvec - 1]
        case gym.spaces.MultiBinary():
            return [np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8)]
        case gym.spaces.Box():
            low, high = np.clip(space.low, -10, None), np.clip(space.high, None, 10)
            return [low.astype(space.dtype), high.astype(space.dtype)]
        case gym.spaces.Tuple():
            return list(zip(*(_two(part) for part in space.spaces), strict=True))
        case gym.spaces.Dict():
            both = {key: _two(part) for key, part in space.spaces.items()}
            return [{key: pair[i] for key, pair in both.items()} for i in range(2)]
    return []


def _two(space: spaces.AnySpace) -> tuple[Any, Any]:
    ways = _ways(space)
    return ways[0], ways[-1]


def speed(case: Case) -> Iterator[Finding]:
    """The time of a step and of a reset."""
    name, play = "speed", case.play
    if play is None or not play.step_seconds:
        yield Finding(name, "skipped", "no step was timed")
        return
    step = float(np.median(play.step_seconds))
    reset = float(np.median(play.reset_seconds)) if play.reset_seconds else 0.0
    case.facts |= {"step_seconds": step, "reset_seconds": reset}
    figures = {"step_microseconds": 1e6 * step, "reset_microseconds": 1e6 * reset}
    times = 8 * step / (1e-6 * ACT_MICROSECONDS)
    shown = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
    share = f"8 steps take {shown} times as long as acting for them with a small network"
    a_reset = f", {_micro(reset)} a reset" if play.reset_seconds else ""
    words = f"{_micro(step)} a step{a_reset}: {1 / step:,.0f} steps a second in one process; {share}"
    if step > SLOW_STEP:
        remedy = "as many environments as processors, stepped by workers (the default); images and physics cost most"
        hours = 1e6 * step / 3600
        yield Finding(name, "warning", f"{words}; a million take {hours:.1f} hours", remedy, figures)
    else:
        yield Finding(name, "ok", words, figures=figures)


def _micro(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} us" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"
