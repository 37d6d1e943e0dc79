"""Checks of device environments, in the places of those of host environments."""

import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.playing import SHARE, arrays, episode, note
from ppo2.diagnosis.subject import Budget, Case, Part, Play, parts_of
from ppo2.distributions import action_distribution
from ppo2.envs.device.check import check_device_env
from ppo2.envs.device.unroll import EnvCarry, initial_carry, unroll
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, root_key

COUNT, STEPS = 32, 128
"""Environments side by side, and steps of them in one program."""
MOST_CALLS = 20


def contract(case: Case) -> Iterator[Finding]:
    """Traces `reset` and `step`."""
    check_device_env(case.env)
    yield Finding("reset and step", "ok", "traced: they take and return what device environments do")


def _program(case: Case) -> Any:
    """A compiled program of STEPS random steps of COUNT environments: (carry, key) -> (carry, transitions)."""
    distribution = action_distribution(case.facts["action_space"])
    space = case.facts["observation_space"]

    def act(obs: Any, noise: Any, state: Any, _starts: Any) -> tuple[Any, Any]:
        mask = obs[spaces.MASK_KEY] if spaces.is_masked(space) else None
        params = jnp.zeros((COUNT, distribution.num_params), jnp.float32)
        log_std = jnp.zeros(distribution.log_std_size, jnp.float32) if distribution.log_std_size else None
        return distribution.build(params, log_std, mask).sample(noise), state

    def run(carry: EnvCarry, key: Any) -> Any:
        noise_key, env_key = jax.random.split(key)
        noise = distribution.noise(noise_key, (STEPS, COUNT))
        return unroll(case.env, act, carry, noise, jax.random.split(env_key, COUNT), distribution)

    return compiled(run)


def random_play(case: Case) -> Iterator[Finding]:
    """Plays random episodes: actions of an untrained policy. No finding is made of them here."""
    program = _program(case)
    keys = jax.random.split(root_key(case.subject.seed, Purpose.ENV), MOST_CALLS)
    carry = initial_carry(case.env, COUNT)
    began = time.perf_counter()
    first = jax.device_get(program(carry, keys[0]))
    case.facts["compile_seconds"] = time.perf_counter() - began
    case.facts["programs"] = (program, carry, keys[0], first)
    play = case.play = Play(parts_of(case.facts["observation_space"]))
    running: list[list[float]] = [[] for _ in range(COUNT)]
    for number, _ in zip(Budget(SHARE * case.subject.seconds), range(MOST_CALLS), strict=False):
        began = time.perf_counter()
        carry, made = jax.device_get(program(carry, keys[number]))
        play.step_seconds.append((time.perf_counter() - began) / (STEPS * COUNT))
        _add(case, play, made, running)
    play.unfinished = max(map(len, running))
    yield from ()


def _add(case: Case, play: Play, made: Any, running: list[list[float]]) -> None:
    """Adds the transitions of one call to a record."""
    space = case.facts["observation_space"]
    obs = made.obs["observation"] if spaces.is_masked(space) else made.obs
    for part, leaf in zip(play.parts, arrays(spaces.unmasked(space), obs), strict=True):
        _add_part(part, np.asarray(leaf))
    if spaces.is_masked(space):
        allowed = [float(np.mean(leaf != 0)) for leaf in jax.tree.leaves(made.obs[spaces.MASK_KEY])]
        play.masked = float(np.mean(allowed))
    ended = made.terminated | made.truncated
    for i in range(COUNT):
        for reward, over, terminated in zip(made.rewards[:, i], ended[:, i], made.terminated[:, i], strict=True):
            running[i].append(float(reward))
            if over:
                play.episodes.append(episode(running[i], terminated=bool(terminated)))
                running[i] = []
    play.rewards += made.rewards.ravel().tolist()
    play.steps += ended.size


def _add_part(part: Part, leaf: Any) -> None:
    flat = leaf.reshape(-1, *leaf.shape[2:])
    part.add(flat)
    for extreme in (flat.min(0), flat.max(0)):
        note(part, np.asarray(extreme, part.space.dtype))


def determinism(case: Case) -> Iterator[Finding]:
    """Runs the same program twice."""
    program, carry, key, first = case.facts.pop("programs")
    again = jax.device_get(program(carry, key))
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
    case.deterministic = all(_bytes(one) == _bytes(other) for one, other in pairs)
    if case.deterministic:
        yield Finding(
            "determinism", "ok", "the same keys and actions give the same bits: a resumed run continues exactly"
        )
        return
    yield Finding(
        "determinism",
        "warning",
        "the same keys and actions gave something else: runs can't be repeated",
        "let `reset` and `step` be pure functions of their arguments: no NumPy, no callbacks",
    )


def _bytes(leaf: Any) -> bytes:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def speed(case: Case) -> Iterator[Finding]:
    """The time of a step."""
    play = case.play
    if play is None or not play.step_seconds:
        yield Finding("speed", "skipped", "no step was timed")
        return
    step = float(np.median(play.step_seconds))
    case.facts["step_seconds"] = step
    yield Finding(
        "speed",
        "ok",
        f"{1 / step:,.0f} steps a second, {COUNT} environments at once; compiling took "
        f"{case.facts['compile_seconds']:.1f} s",
        figures={"steps_per_second": 1 / step, "compile_seconds": case.facts["compile_seconds"]},
    )
