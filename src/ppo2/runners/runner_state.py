"""The state of the host's runner between two rollouts, in a checkpoint and back."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.distributions import ActionDistribution
from ppo2.envs.host.replay import EpisodePosition, EpisodeReplay
from ppo2.envs.host.stepper import Stepper
from ppo2.runners.action_log import ActionLog, kept_steps
from ppo2.runners.episodes import NDArray, RunningEpisodes
from ppo2.runners.snapshot import Snapshot, facts_of, named, states_of, taken


class RunnerState(NamedTuple):
    """Everything that the next rollout goes on from.

    | field | meaning |
    |---|---|
    | obs (N, ...) | observations to act on next |
    | episode_starts (N,) | True where an episode starts with them; None for feed-forward policies |
    | recurrent_state (N, ...) | of a recurrent policy; else None |
    | position | of environments that can be brought back to where they were; else None |
    | episodes | sums over the running episodes |
    | log | the actions of the running episodes |
    | rollouts | number of rollouts so far |
    """

    obs: Any
    episode_starts: Any
    recurrent_state: Any
    position: EpisodePosition | None
    episodes: RunningEpisodes
    log: ActionLog
    rollouts: int


def one_action(distribution: ActionDistribution) -> Any:
    """Zeros in the place of one action, (1, ...)."""
    return jax.tree.map(lambda x: np.zeros((1, *x.shape), x.dtype), distribution.action)


def to_snapshot(
    state: RunnerState, env_states: Sequence[Any], distribution: ActionDistribution, layout: Mapping[str, int]
) -> Snapshot:
    """The snapshot of a state.

    Args:
        env_states: the state that each environment saved itself, or None.
        layout: see `RolloutRunner.layout`.
    """
    arrays: dict[str, Any] = {
        "obs": state.obs,
        "memory": (state.recurrent_state, state.episode_starts),
        "position": state.position,
        "episodes": state.episodes,
        "steps": state.log.steps,
        "actions": state.log.running(one_action(distribution)),
    }
    tensors = {name: tensor for kind, tree in arrays.items() for name, tensor in named(kind, tree).items()}
    for env, env_state in enumerate(env_states):
        tensors |= named(f"states/{env}", env_state)  # in the order of their names
    fields = [None if env_state is None else sorted(env_state) for env_state in env_states]
    facts = {"kind": "host", "states": fields, "limit": state.log.limit, **layout}
    return Snapshot(tensors, facts, state.rollouts)


def restore(
    saved: Checkpoint, fresh: RunnerState, stepper: Stepper, distribution: ActionDistribution
) -> tuple[RunnerState, dict[int, str]]:
    """The state in a snapshot, with the environments brought to where it left them.

    Every environment repeats the actions of its running episode, unless it saved its state itself; where that doesn't
    lead to the same observation as before, it begins a new episode.

    Args:
        fresh: a state of the structure, shapes and dtypes to expect.

    Returns:
        The state, and the reason for each environment that begins a new episode.

    Raises:
        ValueError: the snapshot is of other environments.
    """
    host, facts = stepper.host, facts_of(saved)
    assert host is not None
    obs = taken(saved, "obs", fresh.obs)
    recurrent_state, episode_starts = taken(saved, "memory", (fresh.recurrent_state, fresh.episode_starts))
    episodes: RunningEpisodes = taken(saved, "episodes", fresh.episodes)
    steps = taken(saved, "steps", fresh.log.steps)
    actions = _saved_actions(saved, steps, facts, one_action(distribution))
    replays = [
        EpisodeReplay(int(n), float(returns), None if one is None else stepper.leaves_of(one), env_state)
        for n, returns, one, env_state in zip(
            steps, episodes.returns, actions, states_of(saved, facts, host.num_envs), strict=True
        )
    ]
    obs, lost = host.restore(taken(saved, "position", fresh.position), replays, obs)
    for array in (steps, *episodes):
        array[list(lost)] = 0
    if episode_starts is not None:
        episode_starts[list(lost)] = True
    state = fresh._replace(
        obs=jax.tree.map(np.array, obs),
        episode_starts=episode_starts,
        recurrent_state=recurrent_state,
        position=host.position,
        episodes=episodes,
        log=fresh.log.restored(steps, [None if env in lost else one for env, one in enumerate(actions)]),
    )
    return state, lost


def _saved_actions(saved: Checkpoint, steps: NDArray, facts: Mapping[str, Any], like: Any) -> list[Any]:
    """The actions of each environment's episode; None where they weren't kept."""
    whole, limit = taken(saved, "actions", like, any_length=True), facts.get("limit")
    counts = kept_steps(steps, limit if isinstance(limit, int) else 0)
    ends = np.cumsum(counts)
    if ends[-1] != len(jax.tree.leaves(whole)[0]):
        raise ValueError(f"the checkpoint {saved.path} is damaged: its actions aren't as many as its steps.")
    return [
        None if count != n else jax.tree.map(lambda x, rows=slice(end - count, end): x[rows], whole)
        for n, count, end in zip(steps, counts, ends, strict=True)
    ]


def new_episodes(lost: Mapping[int, str]) -> list[str]:
    """A line for each reason why environments begin new episodes."""
    lines = []
    for why in dict.fromkeys(lost.values()):
        who = [str(env) for env in sorted(lost) if lost[env] == why]
        subject = "environment {} begins a new episode" if len(who) == 1 else "environments {} begin new episodes"
        lines.append(f"{subject.format(', '.join(who))}: {why}")
    return lines
