"""Observations to check an exported policy with, and the model's answers to them."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import VectorEnv

from ppo2 import envs, spaces
from ppo2.agent.model import Model
from ppo2.algorithm.normaliser import BoxStatistics, Normaliser, relative
from ppo2.deployment.policy_function import Named, PolicyFunction, named
from ppo2.envs.device.env import DeviceVector
from ppo2.envs.device.unroll import initial_carry, unroll
from ppo2.envs.host.stepper import Stepper
from ppo2.evaluation.evaluate import check_spaces
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import Purpose, environment_keys, root_key

NDArray = np.ndarray[Any, Any]

ENVS, STEPS = 4, 32
"""Environments that are stepped to record observations, and steps."""
RANDOM_BATCHES = (1, *[ENVS] * 8)
"""Sizes of batches of random observations; few sizes, as each is compiled."""
REACH, MOST_WHOLE = 10.0, 300.0
"""Distance from 0, or from the bound next to it, of random numbers and whole numbers where the bounds are wider."""


class Example(NamedTuple):
    """Inputs of the policy, and the model's outputs for them."""

    inputs: Named
    expected: Named


class Recording(NamedTuple):
    """Observations of environments, step by step, and which episodes begin at each."""

    obs: list[Any]
    episode_starts: list[NDArray]


def random_examples(function: PolicyFunction) -> Iterator[Example]:
    """Random observations, masks and states, and the model's answers."""
    model, rng = copy.copy(function.model), np.random.default_rng(0)
    answer = _answers(function)
    for count in RANDOM_BATCHES:
        obs = _random_obs(model, count, rng)
        state, starts = None, None
        if model.is_recurrent:
            state = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(x.dtype), model.initial_state(count))
            starts = rng.random(count) < 0.3
        yield answer(obs, state, starts)


def recorded_examples(function: PolicyFunction, recording: Recording) -> Iterator[Example]:
    """Recorded observations, with the states that the model has come to at each, and its answers."""
    model, answer, state = function.model, _answers(function), None
    for obs, starts in zip(recording.obs, recording.episode_starts, strict=True):
        if state is None:
            state = model.initial_state(len(starts))
        yield (example := answer(obs, state, starts if model.is_recurrent else None))
        state = function.next_state(example.expected)


def _answers(function: PolicyFunction) -> Any:
    """A function that asks the model: (obs, state, episode starts) -> Example."""
    model = copy.copy(function.model)  # whose count of calls stays as it is
    at_once = compiled(function.decided_at_once)

    def answer(obs: Any, state: Any, starts: Any) -> Example:
        inputs = function.named_obs(obs)
        if starts is not None:
            inputs |= function.named_state(state) | {"episode_starts": starts}
        actions, after = model.predict(obs, state, starts)
        expected = named("action", actions) | {"value": model.value(obs, state, starts)}
        if after is not None:
            expected |= function.named_state(after, "next_state")
        now = model.acting_state()
        seen = function.named_obs(relative(now.normaliser.origins(), obs))
        seen = {name: np.asarray(x, function.on_device[name].dtype) for name, x in (inputs | seen).items()}
        with model.acting():
            _, others = jax.device_get(at_once((now.params, now.normaliser), seen))
        return Example(inputs, {**others, **expected})

    return answer


def _random_obs(model: Model, count: int, rng: np.random.Generator) -> Any:
    """A batch of random observations, of which each mask leaves a legal action."""
    space, seen = model.observation_space, model.state.normaliser.obs
    obs = spaces.mapped(lambda leaf: _random(leaf, count, rng), space)
    if seen is not None:  # what the policy is used to, or the normaliser would clip it all
        inner, own = spaces.unmasked(space), obs["observation"] if spaces.is_masked(space) else obs
        own = spaces.mapped(lambda leaf, x, of: _like_before(leaf, x, of, rng), inner, own, seen)
        obs = {**obs, "observation": own} if spaces.is_masked(space) else own
    if not spaces.is_masked(space):
        return obs
    mask = jax.tree.map(lambda x: (x != 0).astype(x.dtype), obs["action_mask"])
    none = np.broadcast_to(model.distribution.none_legal(mask), (count,))
    return {**obs, "action_mask": jax.tree.map(lambda x: np.where(none[:, None], np.ones_like(x), x), mask)}


def _like_before(
    space: spaces.AnySpace, obs: NDArray, statistics: BoxStatistics | None, rng: np.random.Generator
) -> NDArray:
    """Random numbers like those that were observed, where there are statistics of these; else `obs`."""
    if statistics is None:
        return obs
    box: Any = space
    drawn = rng.normal(np.float64(statistics.mean), 2 * np.sqrt(np.float64(statistics.var)), obs.shape)
    inside: NDArray = np.clip(drawn, np.float64(box.low), np.float64(box.high)).astype(box.dtype)
    return inside


def _random(space: spaces.AnySpace, count: int, rng: np.random.Generator) -> NDArray:
    match space:
        case gym.spaces.Box():
            whole = np.dtype(space.dtype).kind != "f"
            low, high = (np.asarray(bound, np.float64) for bound in (space.low, space.high))
            middle, reach = np.clip(0.0, low, high), MOST_WHOLE if whole else REACH  # the number nearest to 0
            low, high = np.maximum(low, middle - reach), np.minimum(high, middle + reach)
            drawn = rng.uniform(low, np.floor(high) + 1 if whole else high, (count, *space.shape))
            return np.minimum(np.floor(drawn), high).astype(space.dtype) if whole else drawn.astype(space.dtype)
        case gym.spaces.Discrete():
            return (int(space.start) + rng.integers(0, int(space.n), count)).astype(space.dtype)
        case gym.spaces.MultiDiscrete():
            return (space.start + rng.integers(0, space.nvec, (count, *space.shape))).astype(space.dtype)
    return rng.integers(0, 2, (count, *(space.shape or ()))).astype(space.dtype)


def record(model: Model, env: Any, env_kwargs: Mapping[str, Any]) -> Recording:
    """Observations of an environment in which the model acts, by samples.

    Raises:
        ValueError, TypeError: it can't be made, or has other spaces.
    """
    made = envs.resolve(env, None if isinstance(env, VectorEnv | gym.Env) else ENVS, env_kwargs=env_kwargs)
    try:
        check_spaces(model, made.env)
        return _on_device(model, made.env) if isinstance(made.env, DeviceVector) else _on_host(model, made.env)
    finally:
        if made.owned:
            made.env.close()


def _on_host(model: Model, env: Any) -> Recording:
    stepper, found = Stepper(env, model.distribution), Recording([], [])
    with model.acting():
        key = root_key(0, Purpose.EVALUATE)
    obs = stepper.reset(0, Purpose.EVALUATE)
    state, starts = model.initial_state(env.num_envs), np.ones(env.num_envs, bool)
    for count in range(STEPS):
        if not stepper.resetting.any():  # whose observations nobody acts on
            found.obs.append(jax.tree.map(np.array, obs))
            found.episode_starts.append(starts.copy())
        result = model.act_on(obs, key, count, state, starts if model.is_recurrent else None)
        step = stepper.step(jax.device_get(result.sampled))
        obs, state, starts = step.obs, result.recurrent_state, np.array(step.episode_starts)
    return found


def _on_device(model: Model, env: DeviceVector) -> Recording:
    count, distribution = env.num_envs, model.distribution

    def steps(params: Any, normaliser: Normaliser, key: Any) -> Any:
        policy = model.policy_of(params)
        act_keys, env_keys = environment_keys(key, (Purpose.ACT, Purpose.ENV), 0, jnp.arange(count, dtype=jnp.int32))

        def act(obs: Any, now: Any, state: Any, starts: Any) -> Any:
            return policy.act(normaliser, normaliser.on_device(obs), model.step_noise(act_keys, now), state, starts)

        begin = initial_carry(env.env, count, model.initial_state(count))
        _, step = unroll(env.env, act, begin, model.acting_noise(act_keys, STEPS), env_keys, distribution)
        return step.obs, step.episode_starts

    with model.learning():
        state = model.state
        obs, starts = jax.device_get(compiled(steps)(state.params, state.normaliser, root_key(0, Purpose.EVALUATE)))
    own = spaces.mapped(lambda leaf, x: x.astype(leaf.dtype), env.single_observation_space, obs)
    return Recording([jax.tree.map(lambda x, t=t: x[t], own) for t in range(STEPS)], list(starts))
