"""Entries of a device environment's `info`: episodes that it counts itself, and numbers at episodes' ends."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from ppo2.config.info_keys import end_keys
from ppo2.distributions import action_distribution
from ppo2.numerics.randomness import abstract_key

Info = dict[str, Any]


def counted_episode(info: Info, ended: Bool[Array, " N"]) -> tuple[Array, Array, Array] | None:
    """Flags, returns and lengths, (N,), of ended episodes, as an environment counts them itself; None if it doesn't.

    That is info["episode"] = {"r": ..., "l": ...}, as of Gymnasium's RecordEpisodeStatistics, which counts where an
    episode ends and `l` is above 0; or `returned_episode_returns` and `returned_episode_lengths`, as of gymnax's
    LogWrapper, which count where `returned_episode` is True, if it is there, else where an episode ends.
    """
    match info:
        case {"episode": {"r": returns, "l": lengths}}:
            flags = ended & (lengths > 0)
        case {"returned_episode_returns": returns, "returned_episode_lengths": lengths}:
            flags = jnp.asarray(info.get("returned_episode", ended), bool)
        case _:
            return None
    if {jnp.shape(x) for x in (flags, returns, lengths)} != {ended.shape}:
        return None
    return flags, jnp.asarray(returns, jnp.float32), jnp.asarray(lengths, jnp.int32)


def recorded_keys(_: Any, env: Any, info_keys: Sequence[str], required: bool) -> tuple[str, ...]:
    """The entries of `info` that are recorded at episodes' ends, `is_success` among them if there is one.

    Args:
        _: the model, so that `ppo2.agent.compiled.program` can keep the answer: the environment is traced for it.
        info_keys: entries that were asked for.
        required: these must be there; else those that aren't are left out.

    Raises:
        ValueError: one that is required isn't there, or is no number.
    """
    info = info_of(env)
    numbers = [key for key, value in info.items() if _is_number(value)]
    for key in info_keys if required else ():
        if key not in numbers:
            wrong = f"info[{key!r}] of `env` is no number" if key in info else f"`env` gives no info[{key!r}]"
            raise ValueError(
                f"`info_keys` (={list(info_keys)!r}): {wrong}; its numbers are "
                f"{', '.join(map(repr, numbers)) or 'none'}."
            )
    return tuple(key for key in end_keys(info_keys) if key in numbers)


def info_of(env: Any) -> Info:
    """The `info` of a step as shapes and dtypes; nothing is run."""
    distribution = action_distribution(env.action_space)

    def info(key: PRNGKeyArray, action: Any) -> Info:
        state, _ = env.reset(key)
        return dict(env.step(state, distribution.to_environment(action), key)[5])

    found: Info = jax.eval_shape(info, abstract_key(), distribution.action)
    return found


def _is_number(value: Any) -> bool:
    return getattr(value, "shape", None) == () and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
