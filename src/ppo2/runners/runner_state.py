"""The state of the host's runner between two rollouts, in a checkpoint and back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.distributions import ActionDistribution
from ppo2.envs.host.replay import EpisodePosition, EpisodeReplay
from ppo2.envs.host.stepper import Stepper
from ppo2.runners.action_log import ActionLog
from ppo2.runners.snapshot import Snapshot, facts_of, named, states_of, taken

NDArray = np.ndarray[Any, Any]


class RunnerState(NamedTuple):
    """Everything that the next rollout goes on from.

    | field | shape | meaning |
    |---|---|---|
    | obs | (N, ...) | observations to act on next |
    | episode_starts | (N,) | True where an episode starts with them; None for feed-forward policies |
    | recurrent_state | (N, ...) | of a recurrent policy; else None |
    | position | | of environments that can be brought back to where they were, else None |
    | running_returns | (N,) | discounted sums of the running episodes' rewards |
    | returns, lengths | (N,) | of the running episodes so far, undiscounted and in steps |
    | log | | the actions of the running episodes |
    | rollouts | | number of rollouts so far |
    """

    obs: Any
    episode_starts: Any
    recurrent_state: Any
    position: EpisodePosition | None
    running_returns: NDArray
    returns: NDArray
    lengths: NDArray
    log: ActionLog
    rollouts: int


def one_action(distribution: ActionDistribution) -> Any:
    """An action of the policy's, in a batch of one."""
    return jax.tree.map(lambda x: np.zeros((1, *x.shape), x.dtype), distribution.action)


def to_snapshot(
    state: RunnerState, env_states: Sequence[Any], distribution: ActionDistribution, layout: Mapping[str, int]
) -> Snapshot:
    """The snapshot of a state.

    Args:
        env_states: for each environment what it saved of itself, or None.
        layout: see `RolloutRunner.layout`.
    """
    arrays: dict[str, Any] = {
        "obs": state.obs,
        "memory": (state.recurrent_state, state.episode_starts),
        "position": state.position,
        "episodes": (state.running_returns, state.returns, state.lengths),
        "steps": state.log.steps,
        "actions": state.log.running(one_action(distribution)),
    }
    tensors = {name: tensor for kind, tree in arrays.items() for name, tensor in named(kind, tree).items()}
    fields: list[list[str] | None] = []
    for env, env_state in enumerate(env_states):
        fields.append(None if env_state is None else sorted(env_state))
        if env_state is not None:
            tensors |= named(f"states/{env}", [env_state[key] for key in sorted(env_state)])
    facts = {"kind": "host", "states": fields, "limit": state.log.limit, **layout}
    return Snapshot(tensors, facts, state.rollouts)


def restore(
    saved: Checkpoint, fresh: RunnerState, stepper: Stepper, distribution: ActionDistribution
) -> tuple[RunnerState, dict[int, str]]:
    """The state in a snapshot, with the environments brought to where it left them.

    Every environment takes the actions of its running episode again, unless it saved its state itself; where that
    doesn't lead to the observation that it led to before, it begins a new episode.

    Args:
        fresh: a state of the structure, shapes and dtypes to expect.

    Returns:
        The state, and the reason for each environment that begins a new episode.

    Raises:
        ValueError: it is of other environments.
    """
    host = stepper.host
    assert host is not None
    facts, nenvs = facts_of(saved), len(fresh.returns)
    obs = taken(saved, "obs", fresh.obs)
    recurrent_state, episode_starts = taken(saved, "memory", (fresh.recurrent_state, fresh.episode_starts))
    episodes = taken(saved, "episodes", (fresh.running_returns, fresh.returns, fresh.lengths))
    steps = taken(saved, "steps", fresh.log.steps)
    actions = _saved_actions(saved, steps, facts, one_action(distribution))
    replays = [
        EpisodeReplay(int(n), float(returns), None if one is None else stepper.leaves_of(one), env_state)
        for n, returns, one, env_state in zip(steps, episodes[1], actions, states_of(saved, facts, nenvs), strict=True)
    ]
    position = EpisodePosition(*taken(saved, "position", tuple(host.position)))
    obs, lost = host.restore(position, replays, obs)
    obs, gone = jax.tree.map(np.array, obs), sorted(lost)
    for array in (steps, *episodes):
        array[gone] = 0
    if episode_starts is not None:
        episode_starts[gone] = True
    kept = [None if env in lost else one for env, one in enumerate(actions)]
    state = RunnerState(
        obs=obs,
        episode_starts=episode_starts,
        recurrent_state=recurrent_state,
        position=host.position,
        running_returns=episodes[0],
        returns=episodes[1],
        lengths=episodes[2],
        log=fresh.log.restored(steps, kept),
        rollouts=fresh.rollouts,
    )
    return state, lost


def _saved_actions(saved: Checkpoint, steps: NDArray, facts: Mapping[str, Any], like: Any) -> list[Any]:
    """The actions of each environment's episode; None where they weren't kept."""
    whole = taken(saved, "actions", like, (-1,))
    limit = facts.get("limit")
    limit = limit if isinstance(limit, int) else 0
    kept = [n if 0 <= n <= limit else None for n in steps.tolist()]
    if sum(n or 0 for n in kept) != len(jax.tree.leaves(whole)[0]):
        raise ValueError(f"the checkpoint {saved.path} is damaged: its actions aren't as many as its steps.")
    actions, at = [], 0
    for n in kept:
        actions.append(None if n is None else jax.tree.map(lambda x, at=at, n=n: x[at : at + n], whole))
        at += n or 0
    return actions


def other_groups(facts: Mapping[str, Any], layout: Mapping[str, int]) -> list[str]:
    """A line where the policy acted for another number of groups of environments than now."""
    before, now = facts.get("groups"), layout["groups"]
    if before == now:
        return []
    return [f"this run acted for {before} groups of environments, and now for {now}: it goes on to float tolerance"]


def other_actors(facts: Mapping[str, Any], layout: Mapping[str, int]) -> list[str]:
    """A line where other actors than now held the environments of a run; without any, this process is one."""
    before, now = facts.get("actors", 1), layout.get("actors", 1)
    if before == now:
        return []
    return [f"this run's environments were held by {before} actors, and now by {now}: it goes on to float tolerance"]


def new_episodes(lost: Mapping[int, str]) -> list[str]:
    """A line for each reason why environments begin new episodes."""
    lines = []
    for why in dict.fromkeys(lost.values()):
        who = [str(env) for env in sorted(lost) if lost[env] == why]
        begin = "environment {} begins a new episode" if len(who) == 1 else "environments {} begin new episodes"
        lines.append(f"{begin.format(', '.join(who))}: {why}")
    return lines
