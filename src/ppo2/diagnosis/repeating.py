"""Checks of whether the same seed and actions bring about the same, which exact resume relies on; without JAX."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppo2 import spaces
from ppo2.diagnosis.findings import Finding
from ppo2.diagnosis.subject import Actions, Budget, Case
from ppo2.envs.host import contract
from ppo2.envs.host.env_types import AnyEnv, traits_of

MOST_STEPS = 300
"""Steps of an episode that is repeated."""
SEEDS = (17, 18)
NAME = "determinism"
COST = "runs can't be repeated, and a resumed run begins new episodes"


class Trace(NamedTuple):
    """An episode: everything that was returned, as bytes, and the actions."""

    seen: list[bytes]
    actions: list[Any]


def played(case: Case, env: AnyEnv, seed: int, actions: Sequence[Any] | None = None, seconds: float = 1.0) -> Trace:
    """Plays the beginning of an episode.

    Args:
        actions: to take; None: random ones.
        seconds: duration, where the actions are new.
    """
    space = case.facts["observation_space"]
    drawn = Actions(case.facts["action_space"], seed)
    obs, _ = contract.unpack_reset(env, env.reset(seed=seed))
    trace = Trace([_bytes(space, obs)], [])
    budget = iter(Budget(seconds)) if actions is None else iter(range(len(actions)))
    for number in budget:
        if number >= MOST_STEPS:
            break
        action = drawn.draw(obs) if actions is None else actions[number]
        trace.actions.append(action)
        obs, reward, terminated, truncated, _ = contract.checked_step(env, env.step(action), 0)
        trace.seen.append(_bytes(space, obs) + repr((float(reward), bool(terminated), bool(truncated))).encode())
        if terminated or truncated:
            break
    return trace


def determinism(case: Case) -> Iterator[Finding]:
    """Plays the same episode several times: in new environments, and in one that has played others before."""
    reseeds = traits_of(case.subject.make).reseeds
    first = _in_a_new_one(case, None)
    at = _first_difference(first, _in_a_new_one(case, first.actions))
    if at is not None:
        case.deterministic = False
        words = f"the same seed and actions gave something else {_when(at)}: {COST}"
        yield Finding(NAME, "warning", words, _cause(case, first), {"step": at})
        return
    at = _first_difference(first, played(case, case.env, SEEDS[0], first.actions)) if reseeds else None
    if at is not None:
        case.deterministic = False
        yield Finding(
            NAME,
            "warning",
            f"after other episodes the same seed and actions gave something else {_when(at)}: `reset` leaves something "
            f"of what came before; {COST}",
            "set all that changes in an episode in `reset`, and call super().reset(seed=seed) first",
            {"step": at},
        )
        return
    case.deterministic = True
    how = "whatever came before" if reseeds else "from a new environment"
    yield Finding(
        NAME,
        "ok",
        f"the same seed and actions give the same bits, {how} ({len(first.actions)} steps): a resumed run continues "
        "exactly",
    )
    if reseeds:
        yield from _starts(case, first)


def _in_a_new_one(case: Case, actions: Sequence[Any] | None) -> Trace:
    """`played` in an environment that has done nothing before, if there can be one."""
    env = case.fresh()
    try:
        return played(case, env, SEEDS[0], actions, seconds=0.08 * case.subject.seconds)
    finally:
        if env is not case.env:
            env.close()


def _starts(case: Case, first: Trace) -> Iterator[Finding]:
    """Looks at whether seeds make a difference."""
    other = played(case, case.env, SEEDS[1], first.actions)
    if _first_difference(first, other) is None and len(first.actions) > 1:
        yield Finding(
            NAME,
            "ok",
            "seeds make no difference: all episodes begin alike, so that a policy may learn one sequence by heart",
        )


def _cause(case: Case, first: Trace) -> str:
    """The remedy, by whether a global random state is what differs."""
    for module, seed in (("numpy.random", np.random.seed), ("random", random.seed)):
        state, own = np.random.get_state(), random.getstate()  # noqa: NPY002 (whoever used it is to be found)
        try:
            traces = []
            for _ in range(2):
                seed(0)
                traces.append(_in_a_new_one(case, first.actions))
        finally:
            np.random.set_state(state)  # noqa: NPY002
            random.setstate(own)
        if _first_difference(*traces) is None:
            return f"it draws from the global {module}: draw from self.np_random, after super().reset(seed=seed)"
    return "draw random numbers from self.np_random, after super().reset(seed=seed), and from nothing else"


def _first_difference(one: Trace, other: Trace) -> int | None:
    """The step at which two episodes differ, 0 for the reset; None if they don't."""
    pairs = enumerate(zip(one.seen, other.seen, strict=False))
    found = next((step for step, (mine, theirs) in pairs if mine != theirs), None)
    return len(other.seen) if found is None and len(one.seen) != len(other.seen) else found


def _when(step: int) -> str:
    return "at the reset" if step == 0 else f"at step {step}"


def _bytes(space: spaces.AnySpace, obs: Any) -> bytes:
    """An observation's bits."""
    if obs is None:
        return b""
    return b"".join(np.ascontiguousarray(leaf).tobytes() for leaf in spaces.leaves(space, obs))
