"""Evaluating while training goes on."""

import math

import numpy as np

from ppo2 import distributed
from ppo2.algorithm.train_state import UpdateStats
from ppo2.distributed import heartbeat
from ppo2.envs import AnyEnvs
from ppo2.evaluation.evaluate import Evaluation, run_episodes
from ppo2.training.context import Context
from ppo2.training.loop import is_due
from ppo2.training.saver import Saver


class Evaluator:
    """Evaluates the model at an interval, with frozen statistics and on the same episodes' seeds each time.

    Attributes:
        figures: results of the last evaluation, for the log's next row; empty once a row has them.
    """

    def __init__(self, context: Context, env: AnyEnvs, saver: Saver) -> None:
        self._context, self._env, self._saver = context, env, saver
        self._config = context.setup.config
        self.interval = self._config.eval_interval or self._config.log_interval
        self.figures: dict[str, float] = {}

    def is_due(self, update: int) -> bool:
        return is_due(update, self.interval)

    def run(self, update: int, stats: UpdateStats) -> bool:
        """See `Task`. An evaluation that a signal breaks off leaves no figures."""
        with heartbeat.allow_pause():
            self._evaluate(update)
        return False

    def _evaluate(self, update: int) -> None:
        config = self._config
        if config.keep is not None:
            self._saver.settle()  # is the best one so far really there?
        # The same seed each time: evaluations differ by the policy, not by luck of the first states.
        mine = run_episodes(
            self._context.setup.model,
            self._env,
            episodes=config.eval_episodes,
            deterministic=True,
            seed=config.seed,
            until=lambda: self._context.stop.received is not None,
            share=distributed.world(),
        )
        parts = self._context.signal.all_gather([mine.returns.tolist(), mine.lengths.tolist()])
        if self._context.signal.received is not None:
            return
        returns, lengths = (np.array([x for part in parts for x in part[i]]) for i in (0, 1))
        result = Evaluation(returns, lengths)
        self.figures = {"eval_eprewmean": result.mean, "eval_eplenmean": float(result.lengths.mean())}
        if config.keep is not None and math.isfinite(result.mean):
            self._saver.offer_best(update, result.mean)
