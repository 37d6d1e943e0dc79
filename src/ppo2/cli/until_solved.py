"""`--until-solved`: the end of training where an environment counts as solved."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

FEWEST_RECENT = 10
"""Fewest recent episodes that decide whether an environment is solved."""


class UntilSolved:
    """An `update_fn` that stops training once an environment counts as solved: the mean return of the last 100
    episodes reaches its threshold. Long episodes of before would keep that mean low for long: where the last 100 took
    more than a twentieth of all timesteps, those within it (10 at least) are enough, if their mean less its standard
    error reaches the threshold.

    Raises:
        ValueError: the environment has no reward_threshold.
    """

    stop_reason = "solved"

    def __init__(self, env_id: str, total_timesteps: float) -> None:
        import gymnasium as gym

        from ppo2 import envs
        from ppo2.reporting.episode_file import RECENT_SHARE
        from ppo2.runners.episodes import EPISODE_WINDOW

        envs.check_id(env_id)
        threshold = None if envs.adapter_of(env_id) else gym.spec(env_id.rpartition(":")[2]).reward_threshold
        if threshold is None:
            raise ValueError(
                f"--until-solved: {env_id} is registered without a reward_threshold. Leave the option out."
            )
        self.threshold, self.mean, self.solved = float(threshold), float("nan"), False
        self.window, self._timesteps = EPISODE_WINDOW, RECENT_SHARE * total_timesteps

    def __call__(self, update: int, model: Any, stats: Any) -> bool:
        self.mean = float(stats.eprewmean)
        self.solved = self.mean >= self.threshold and stats.episodes >= self.window
        recent = self._recent(getattr(stats, "last", ()))
        if not self.solved and len(recent) >= FEWEST_RECENT:
            mean = statistics.fmean(recent)
            if mean - statistics.stdev(recent) / math.sqrt(len(recent)) >= self.threshold:
                self.mean, self.solved = mean, True
        return not self.solved

    def _recent(self, episodes: Sequence[Any]) -> list[float]:
        """The returns of the last episodes that took no more than the recent timesteps; none if all did."""
        returns: list[float] = []
        steps = 0
        for episode in reversed(episodes):
            steps += episode.l
            if steps > self._timesteps and len(returns) >= FEWEST_RECENT:
                return returns
            returns.append(episode.r)
        return returns if steps > self._timesteps else []

    def verdict(self) -> str:
        """The outcome, in words."""
        if self.solved:
            return f"solved: the mean return of {self.mean:.1f} reaches the threshold of {self.threshold:g}"
        few = f" in {self.window} episodes" if self.mean >= self.threshold else ""
        return f"not solved: the mean return did not reach the threshold of {self.threshold:g}{few}"
