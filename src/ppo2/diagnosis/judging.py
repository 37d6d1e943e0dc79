"""Judgements of a random play: observations, rewards, episodes; without JAX."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.subject import Case, Part, Play
from ppo2.envs.time_limit import time_limit

LARGE_OBS, SMALL_OBS = 10.0, 0.01
"""Sizes of observations beyond which statistics are worth having: a network's first weights are for about 1."""
FAR = 100.0
"""Means of a number, in its standard deviations, from which on it is told apart from its neighbours badly."""
UNEQUAL = 1000.0
"""Ratio of the spreads of two numbers from which on the smaller one is hardly seen."""
LARGE_RETURN, SMALL_RETURN = 100.0, 0.01
"""Sizes of discounted returns between which a value function learns them as they are."""
FEW_EPISODES = 5
"""Episodes that a judgement of their lengths needs."""
LONG = 2000
"""Steps without an end, where there is no time limit, that are remarkable."""
CUT_LENGTH = 10
"""Length from which on episodes that all terminate after as many steps look as if a time limit ended them."""


def observations(case: Case) -> Iterator[Finding]:
    """Finite numbers, within their bounds, that change, and reuse of memory."""
    name, play = "observations", _play(case)
    fine = True
    for part in play.parts:
        for finding in _observation(name, part, play):
            fine = False
            yield finding
    if play.repeats_start:
        fine = False
        yield Finding(
            name,
            "warning",
            "every episode ends with the very observation that it began with: the environment seems to reset itself, "
            "and the last observation is lost",
            "let `step` return the observation that its action led to, and leave resets to `reset`",
        )
    if fine:
        note = "; it comes in the same memory each time, and is copied" if play.reuses else ""
        yield Finding(name, "ok", f"finite, and within their bounds, in {play.steps:,} random steps{note}")


def _observation(name: str, part: Part, play: Play) -> Iterator[Finding]:
    of = f" {part.name!r}" if part.name else ""
    if part.broken:
        yield Finding(
            name,
            "fault",
            f"observations{of} hold {part.broken}: no update can be made of them",
            "fix the environment; np.seterr(all='raise') shows where such a number arises",
        )
    if part.outside:
        yield Finding(
            name,
            "warning",
            f"observations{of} leave their space: {part.outside}",
            "widen the bounds of observation_space, or clip",
        )
    if part.dtype and np.dtype(part.dtype).kind != np.dtype(part.space.dtype).kind:
        yield Finding(
            name,
            "warning",
            f"observations{of} come as {part.dtype}, declared as {part.space.dtype}",
            "return the declared dtype: .astype(self.observation_space.dtype)",
        )
    changing = part.std > 0
    if play.steps > 1 and not np.any(changing):
        yield Finding(
            name,
            "warning",
            f"observations{of} never changed in {play.steps:,} random steps: a policy sees nothing of what it does",
            "check that `step` and `reset` return the state as it is now",
        )
    if spaces.is_image(part.space) and np.max(part.high) <= 1:
        yield Finding(
            name,
            "warning",
            f"observations{of} are declared 0..255, but hold nothing above 1: they are divided by 255 all the same",
            "return bytes from 0 to 255",
        )


def scale(case: Case) -> Iterator[Finding]:
    """The size of observations, as a network sees them."""
    name = "scale"
    floats = [part for part in _play(case).parts if _is_plain(part)]
    if not floats:
        yield Finding(name, "ok", "observations need no scaling")
        return
    size = max(float(np.max(np.maximum(np.abs(part.low), np.abs(part.high)))) for part in floats)
    spreads = np.concatenate([part.std.ravel() for part in floats])
    spreads = spreads[np.isfinite(spreads) & (spreads > 0)]
    offsets = np.concatenate([np.abs(part.mean / np.where(part.std > 0, part.std, np.inf)).ravel() for part in floats])
    ratio = float(spreads.max() / spreads.min()) if len(spreads) else 1.0
    still = sum(int(np.sum(part.std == 0)) for part in floats)
    total = sum(part.std.size for part in floats)
    figures = {"size": size, "ratio": ratio, "constant": still, "numbers": total}
    case.facts |= {"obs_size": size, "obs_ratio": ratio}
    found = []
    if size > LARGE_OBS or (0 < size < SMALL_OBS):
        found.append(f"numbers up to {size:.3g}")
    if ratio > UNEQUAL:
        found.append(f"spreads that differ {ratio:.2g}-fold")
    if np.max(offsets, initial=0) > FAR:
        found.append("numbers far from 0 for their spread")
    normalised = case.subject.is_known or case.subject.preset.get("normalize_obs", False)
    how = "for which the preset is made" if case.subject.is_known else "which normalize_obs=True, as below, scales"
    constant = f"; {still} of {total} never changed" if still and len(spreads) else ""
    if not found:
        yield Finding(name, "ok", f"observations are within {size:.3g}{constant}", figures=figures)
        return
    case.facts["normalize_obs"] = True
    words = f"observations have {', '.join(found)}{constant}"
    if normalised:
        yield Finding(name, "ok", f"{words}, {how}", figures=figures)
    else:
        yield Finding(
            name, "warning", words, "normalize_obs=True scales them, by statistics saved with the model", figures
        )


def _is_plain(part: Part) -> bool:
    """True for numbers that a network sees as they are."""
    is_box = isinstance(part.space, gym.spaces.Box)
    return is_box and part.count > 0 and part.std.size > 0 and not spaces.is_image(part.space) and not part.broken


def rewards(case: Case) -> Iterator[Finding]:
    """Finite rewards, that differ, of a fit size."""
    name, play = "rewards", _play(case)
    given = np.asarray(play.rewards, np.float64)
    if not np.isfinite(given).all():
        at = int(np.argmin(np.isfinite(given)))
        yield Finding(
            name,
            "fault",
            f"a reward was {given[at]} (step {at + 1}): no update can be made of it",
            "fix what `step` returns as reward",
        )
        return
    if not len(given):
        yield Finding(name, "skipped", "no step was made")
        return
    squares, count = sum(one.squares for one in play.episodes), sum(one.length for one in play.episodes)
    size = math.sqrt(squares / count) if count else float(np.sqrt(np.mean(given**2))) / (1 - 0.99)
    shown = f"rewards from {given.min():.4g} to {given.max():.4g}"
    figures = {"low": given.min(), "high": given.max(), "mean": given.mean(), "return_size": size}
    case.facts["return_size"] = size
    if not given.any():
        case.facts["sparse"] = True
        yield Finding(
            name,
            "warning",
            f"random actions met no reward in {len(given):,} steps: PPO learns nothing until it meets one by chance",
            "reward progress on the way (shaping), begin with easier tasks, or explore longer (ent_coef, more steps)",
            figures,
        )
        return
    if size > LARGE_RETURN or size < SMALL_RETURN:
        case.facts["normalize_rewards"] = True
        words = f"{shown}; discounted returns of about {size:.3g}, far from 1"
        if case.subject.is_known:
            words = f"{words}, for which the preset is made"
            yield Finding(name, "ok", words, figures=figures)
        else:
            remedy = "normalize_rewards=True scales them for training; logs keep returns as they are"
            yield Finding(name, "warning", words, remedy, figures)
        return
    yield Finding(name, "ok", f"{shown}; discounted returns of about {size:.3g}", figures=figures)


def episodes(case: Case) -> Iterator[Finding]:
    """Lengths and ends of episodes."""
    name, play = "episodes", _play(case)
    limit = case.limit or time_limit(case.env)
    lengths = np.array([one.length for one in play.episodes])
    figures: dict[str, Any] = {"episodes": len(lengths), "time_limit": limit, "steps": play.steps}
    case.facts["ends"] = len(lengths) > 0
    case.facts["length"] = float(np.median(lengths)) if len(lengths) else (limit or play.unfinished)
    if not len(lengths):
        if limit is not None:
            words = f"none ended in {play.steps:,} random steps; a time limit cuts them after {limit:,}"
            yield Finding(name, "ok", words, figures=figures)
        else:
            yield Finding(
                name,
                "warning",
                f"none ended in {play.steps:,} random steps, and there is no time limit that shows: without ends there "
                "are no returns to log or to judge by",
                "max_episode_steps=1000 (an argument of ppo2.make, and of gymnasium.register), or "
                "gymnasium.wrappers.TimeLimit; ppo2.envs.TimeLimit on the device",
                figures,
            )
        return
    cut = sum(not one.terminated for one in play.episodes)
    figures |= {"median": float(np.median(lengths)), "low": lengths.min(), "high": lengths.max(), "truncated": cut}
    spread = f"{lengths.min():,}" if lengths.min() == lengths.max() else f"{lengths.min():,} to {lengths.max():,}"
    limited = f", time limit {limit:,}" if limit else ""
    ends = f"{len(lengths) - cut:,} terminated, {cut:,} truncated{limited}"
    words = f"{len(lengths):,} random ones, of {spread} steps; {ends}"
    if lengths.max() == 1 and len(lengths) >= FEW_EPISODES:
        yield Finding(
            name,
            "warning",
            f"all {len(lengths)} random ones lasted a single step",
            "fine for a bandit; else check what `step` returns as terminated and truncated",
            figures,
        )
    elif limit is None and cut == 0 and len(lengths) >= FEW_EPISODES and CUT_LENGTH <= lengths.min() == lengths.max():
        yield Finding(
            name,
            "warning",
            f"all {len(lengths)} *terminated* after exactly {lengths[0]:,} steps: a time limit, as it seems, whose "
            "last states are then learned to be worth nothing",
            "return truncated=True at a time limit, terminated=False",
            figures,
        )
    elif limit is None and play.unfinished > LONG:
        yield Finding(
            name,
            "warning",
            f"{words}; one went on for more than {play.unfinished:,} steps, and there is no time limit that shows",
            "max_episode_steps of ppo2.make, or gymnasium.wrappers.TimeLimit",
            figures,
        )
    else:
        yield Finding(name, "ok", words, figures=figures)


def random_policy(case: Case) -> Iterator[Finding]:
    """The return of random actions: what a trained policy is to be compared with."""
    name, play = "random policy", _play(case)
    returns = np.array(play.counted or [one.r for one in play.episodes])
    if not len(returns) or not np.isfinite(returns).all():
        yield Finding(name, "skipped", "no random episode ended" if not len(returns) else "returns are not finite")
        return
    mean, std = float(returns.mean()), float(returns.std())
    figures = {"mean": mean, "std": std, "episodes": len(returns), "low": returns.min(), "high": returns.max()}
    case.facts |= {"random_mean": mean, "random_std": std}
    unit = "whole episodes, as logged" if play.counted else "episodes"
    solved = "" if case.subject.threshold is None else f"; solved at {case.subject.threshold:g}"
    words = f"mean return {mean:.4g}, std {std:.3g}, over {len(returns):,} {unit}{solved}"
    if std == 0 and len(returns) >= FEW_EPISODES and not case.facts.get("sparse"):
        yield Finding(
            name,
            "warning",
            f"{words}: whatever is done, the return is the same",
            "check that the reward depends on what the policy does",
            figures,
        )
        return
    yield Finding(name, "ok", words, figures=figures)


def masks(case: Case) -> Iterator[Finding]:
    """The share of actions that masks allow."""
    share = _play(case).masked
    if share is None:
        return
    name, figures = "action masks", {"allowed": share}
    if share >= 1:
        yield Finding(name, "warning", "every mask allowed every action", "leave masks out, or fill them", figures)
    else:
        yield Finding(name, "ok", f"allow {share:.0%} of the actions, on average", figures=figures)


def _play(case: Case) -> Play:
    if case.play is None or not case.play.steps:
        raise LookupError("no random step could be made")
    return case.play
