"""Checks of vector environments, in the places of those of single ones; without JAX."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.playing import SHARE, Collector, episode
from ppo2.diagnosis.subject import Actions, Budget, Case, Play
from ppo2.envs.host import contract as gymnasium_contract
from ppo2.envs.host.stepper import autoreset_mode

STEPS = 20
"""Steps of all environments that are looked at one by one."""
MOST_STEPS = 20_000


def contract(case: Case) -> Iterator[Finding]:
    """Steps all environments a little, and looks at all that they return."""
    env, space = case.env, case.facts["observation_space"]
    obs, _ = gymnasium_contract.unpack_reset(env, env.reset(seed=case.subject.seed))
    _check_batch(env, space, obs)
    mode = autoreset_mode(env)
    for _ in range(STEPS):
        obs, _, terminated, truncated, infos = _step(env, _draw(case, obs))
        _check_batch(env, space, obs)
        over = terminated | truncated
        if over.any() and mode is AutoresetMode.SAME_STEP and truncated.any() and infos.get("final_obs") is None:
            raise ValueError(
                "`env` resets in the same step (SAME_STEP), but gives no infos['final_obs'], without which truncated "
                "episodes can't be bootstrapped."
            )
        if over.any() and mode is AutoresetMode.DISABLED:
            obs, _ = env.reset(options={"reset_mask": over})
    yield Finding(
        "reset and step", "ok", f"take and return what Gymnasium wants of {env.num_envs} environments; {mode.value}"
    )


def random_play(case: Case) -> Iterator[Finding]:
    """Plays random episodes. No finding is made of them here."""
    env, space, count = case.env, case.facts["observation_space"], case.env.num_envs
    collector, mode = Collector(space), autoreset_mode(env)
    play = case.play = Play(collector.parts)
    obs, _ = env.reset(seed=case.subject.seed)
    running: list[list[float]] = [[] for _ in range(count)]
    resetting = np.zeros(count, bool)
    for _ in Budget(SHARE * case.subject.seconds):
        if play.steps >= MOST_STEPS:
            break
        for i in range(count):
            collector.add(row(space, obs, i))
        actions = _draw(case, obs)
        began = time.perf_counter()
        obs, rewards, terminated, truncated, _ = _step(env, actions)
        play.step_seconds.append((time.perf_counter() - began) / count)
        over = terminated | truncated
        for i in np.flatnonzero(~resetting).tolist():
            play.steps += 1
            play.rewards.append(float(rewards[i]))
            running[i].append(float(rewards[i]))
            if over[i]:
                play.episodes.append(episode(running[i], terminated=bool(terminated[i])))
                running[i] = []
        resetting = over & (mode is AutoresetMode.NEXT_STEP)
        if over.any() and mode is AutoresetMode.DISABLED:
            obs, _ = env.reset(options={"reset_mask": over})
    collector.flush()
    play.unfinished = max(map(len, running))
    yield from ()


def _step(env: Any, actions: Any) -> Any:
    obs, rewards, terminated, truncated, infos = gymnasium_contract.unpack_step(env, env.step(actions))
    count = env.num_envs
    return (
        obs,
        gymnasium_contract.to_rewards(rewards, count),
        gymnasium_contract.to_flags(terminated, count, "terminated"),
        gymnasium_contract.to_flags(truncated, count, "truncated"),
        infos,
    )


def _draw(case: Case, obs: Any) -> Any:
    """Actions for all environments, legal ones where there are masks."""
    if "drawn" not in case.facts:
        case.facts["drawn"] = Actions(case.facts["action_space"], case.subject.seed)
    drawn, space = case.facts["drawn"], case.facts["observation_space"]
    rows = [drawn.draw(row(space, obs, i) if spaces.is_masked(space) else None) for i in range(case.env.num_envs)]
    return stacked(rows)


def stacked(rows: list[Any]) -> Any:
    """Actions one by one as a batch."""
    if isinstance(rows[0], dict):
        return {key: stacked([one[key] for one in rows]) for key in rows[0]}
    if isinstance(rows[0], tuple):
        return tuple(stacked(list(part)) for part in zip(*rows, strict=True))
    return np.stack([np.asarray(one) for one in rows])


def row(space: Any, obs: Any, i: int) -> Any:
    """The observation of environment i in a batch."""
    if isinstance(obs, dict):
        return {key: row(space[key], part, i) for key, part in obs.items()}
    return tuple(row(space[k], part, i) for k, part in enumerate(obs)) if isinstance(obs, tuple) else obs[i]


def _check_batch(env: Any, space: spaces.AnySpace, obs: Any) -> None:
    batch, is_one = spaces.observation(space, obs, "an observation of `env`")
    sizes = {len(leaf) for leaf in spaces.leaves(space, batch)}
    if is_one or sizes != {env.num_envs}:
        raise ValueError(f"an observation of `env` is not one {space} for each of its {env.num_envs} environments.")
