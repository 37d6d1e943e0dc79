"""Evaluating on several environments while training goes on."""

import contextlib
from collections.abc import Mapping
from typing import Any

from ppo2 import envs as environments
from ppo2.callbacks.base import Callback, Training, evaluation_figures
from ppo2.envs.host.vector import HostVectorEnv
from ppo2.evaluation.evaluate import (
    Evaluation,
    check_request,
    check_spaces,
    kwargs_for,
    placed_for,
    run_episodes,
    side_by_side,
)
from ppo2.evaluation.limits import EpisodeLimit
from ppo2.evaluation.not_finite import NotFiniteError


class EvaluateOn(Callback):
    """Evaluates on environments beside `eval_env`, with the same seeds each time; each one's figures are in the log as
    `eval/NAME/eprewmean`, `eval/NAME/eplenmean` and `eval/NAME/info/KEY`. They are made when training starts, and
    closed at its end.

    Of several processes give it to one.

    Args:
        envs: environments by name, each in any form that `env` takes.
        episodes: number of episodes on each.
        interval: updates between two evaluations, the first update's included; None: as `eval_interval`, else
            `log_interval`.
        max_steps: see `ppo2.evaluate`.

    Attributes:
        results: the last evaluation on each.
    """

    def __init__(
        self, envs: Mapping[str, Any], *, episodes: int = 10, interval: int | None = None, max_steps: int | None = None
    ) -> None:
        if (
            not callable(getattr(envs, "items", None))
            or not envs
            or not all(type(name) is str and name and name.isprintable() for name in envs)
        ):
            raise TypeError(
                f"`envs` (={envs!r}) must be a dict of environments by name, as in {{'hard': 'CartPole-v1'}}."
            )
        self.envs, self.episodes, self.max_steps = dict(envs), episodes, max_steps
        self.interval = self._interval = interval
        self.results: dict[str, Evaluation] = {}
        self._made: dict[str, environments.AnyEnvs] = {}
        self._open = contextlib.ExitStack()

    def on_start(self, training: Training) -> None:
        """Raises ValueError for an environment that can't be made or has other spaces, or for no number of episodes."""
        self.results, self._made = {}, {}
        self.interval = self._interval or training.config.eval_interval or training.config.log_interval
        check_request(training.model, self.episodes, "auto")
        for name, env in self.envs.items():
            own = env.info_keys if isinstance(env, HostVectorEnv) else training.config.info_keys
            how: dict[str, Any] = {"info_keys": own, "env_kwargs": kwargs_for(training.model, env, None)}
            made = environments.resolve(env, side_by_side(env, self.episodes), **how)
            if made.owned:
                self._open.callback(made.env.close)
            check_spaces(training.model, made.env, f"envs[{name!r}]")
            EpisodeLimit(made.env, self.max_steps)  # checks it
            self._made[name] = made.env

    def on_end(self, training: Training) -> None:
        """Closes the environments."""
        self._made = {}
        self._open.close()

    def on_update(self, training: Training) -> None:
        for name, env in self._made.items():
            try:
                result = run_episodes(
                    placed_for(training.model, env, "auto"),
                    env,
                    episodes=self.episodes,
                    deterministic=True,
                    seed=training.config.seed,
                    info_keys=env.info_keys if isinstance(env, HostVectorEnv) else training.config.info_keys,
                    limit=EpisodeLimit(env, self.max_steps),
                )
            except NotFiniteError as error:
                if training.config.on_nonfinite == "raise":
                    raise
                training.say(f"the evaluation on {name!r} at update {training.update:,} was broken off: {error}")
                continue
            self.results[name] = result
            for column, value in evaluation_figures(result).items():
                training.log(f"eval/{name}/{column.removeprefix('eval_')}", value)
