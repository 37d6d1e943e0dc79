"""Settings to begin with, by what the checks found, and the reasons for them."""

from typing import Any

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Proposal
from ppo2.diagnosis.subject import Case, named
from ppo2.envs.families.registry import IMAGES
from ppo2.envs.presets import suited
from ppo2.reporting.repeat import option
from ppo2.system.processors import usable_processors

LEAST_STEPS, MOST_STEPS = 128, 2048
"""Bounds of the proposed `nsteps`."""
MINIBATCH, MOST_MINIBATCHES = 256, 64
"""Samples that a minibatch is meant to have, and most of them in a batch."""
DEVICE_ENVS, DEVICE_STEPS, DEVICE_MINIBATCH = 256, 64, 2048
"""The same of device environments, and their number, as the presets for these have them."""
SLOW_STEP = 1e-3
"""Seconds of a step from which on as many environments as processors are enough."""


def propose(case: Case) -> Proposal:
    """Settings for the environment of a case, the family's preset where there is one."""
    facts, known = case.facts, case.subject.is_known
    preset = suited(case.subject.preset, facts["observation_space"])
    settings: dict[str, Any] = dict(preset)
    changed: dict[str, Any] = {}
    if known:
        reasons = [f"the preset of {case.subject.family} environments ({case.subject.source})"]
        if preset != case.subject.preset:
            reasons.append(f"network={preset['network']!r}: these observations are others than those that it is for")
    elif preset != case.subject.preset:
        reasons = [f"the preset for images, which observations are or have ({IMAGES.source})"]
    else:
        reasons = ["this library's default settings, and what follows"]
        changed |= _batch(case, settings, reasons)
        changed |= _entropy(facts["action_space"], reasons)
    if facts.get("normalize_rewards") and not (known or preset.get("normalize_rewards")):
        changed["normalize_rewards"] = True
        reasons.append(f"normalize_rewards=True: discounted returns are about {facts['return_size']:.3g}, far from 1")
    if facts.get("normalize_obs") and not (known or preset.get("normalize_obs")):
        changed["normalize_obs"] = True
        reasons.append("normalize_obs=True: observations are of other sizes than 1")
    if facts.get("squashed"):
        changed["action_dist"] = "squashed_gaussian"
        reasons.append("action_dist='squashed_gaussian': the bounds of actions are out of reach from 0")
    if facts.get("sparse"):
        reasons.append("no reward was met by chance: expect nothing before rewards come sooner")
    if "step_seconds" in facts:
        reasons.append(_patience(settings | changed, facts["step_seconds"]))
    settings |= changed
    if case.subject.exists:
        settings.pop("num_envs", None)
    command = None
    if case.subject.command is not None:
        options = " ".join(word for name, value in changed.items() for word in option(name, value))
        command = f"ppo2 train {case.subject.command} {options}".strip()
    if case.subject.kwargs:
        settings["env_kwargs"] = dict(case.subject.kwargs)
    return Proposal(settings, reasons, command, case.subject.env)


def _batch(case: Case, settings: dict[str, Any], reasons: list[str]) -> dict[str, Any]:
    facts = case.facts
    if case.subject.exists:
        count = int(getattr(case.env, "num_envs", 1))
        more = "" if count > 1 else "; its class, or a function that makes it, gives several"
        reasons.append(f"no num_envs: the environment exists, and is {count}{more}")
    elif facts.get("step_seconds", 0.0) > SLOW_STEP and case.kind == "host":
        count = max(8, usable_processors())
        reasons.append(f"num_envs={count}: steps are slow, and workers step side by side")
    elif case.kind == "device":
        count = DEVICE_ENVS
        reasons.append(f"num_envs={count}: on the device many cost little more than few")
    else:
        count = int(settings["num_envs"])
        reasons.append(f"num_envs={count}: a step is quick")
    length = max(1.0, float(facts.get("length") or LEAST_STEPS))
    nsteps = int(2 ** np.clip(np.ceil(np.log2(length)), np.log2(LEAST_STEPS), np.log2(MOST_STEPS)))
    size = MINIBATCH
    if case.kind == "device":
        nsteps, size = min(nsteps, DEVICE_STEPS), DEVICE_MINIBATCH
    batch = count * nsteps
    minibatches = int(np.clip(2 ** round(np.log2(max(batch / size, 1))), 4, MOST_MINIBATCHES))
    while batch % minibatches:
        minibatches -= 1
    why = f"an episode has about {length:.0f} steps" if facts.get("ends") else "no random episode ended"
    reasons.append(f"nsteps={nsteps}: {why}; batches of {batch:,}")
    reasons.append(f"nminibatches={minibatches}: minibatches of {batch // minibatches:,}")
    found: dict[str, Any] = {"nsteps": nsteps, "nminibatches": minibatches}
    return found if case.subject.exists else {"num_envs": count, **found}


def _entropy(space: spaces.AnySpace, reasons: list[str]) -> dict[str, Any]:
    if any(isinstance(part, gym.spaces.Box) for _, part in named(space)):
        reasons.append("ent_coef=0.0: continuous actions explore by their standard deviation")
        return {"ent_coef": 0.0}
    reasons.append("ent_coef=0.01: choices need some pressure to go on exploring")
    return {"ent_coef": 0.01}


def _patience(settings: dict[str, Any], step: float) -> str:
    total = float(settings.get("total_timesteps", 1e6))
    seconds = total * step
    minutes = round(seconds / 60)
    shown = (
        f"{seconds / 3600:.1f} hours" if minutes > 90 else f"{minutes} minutes" if minutes > 1 else "a minute at most"
    )
    return f"{total:,.0f} timesteps: stepping takes {shown} of one processor; acting and learning take additional time"
