"""Evaluating while training goes on."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ppo2 import distributed
from ppo2.algorithm.train_state import UpdateStats
from ppo2.callbacks.base import evaluation_figures
from ppo2.distributed import heartbeat
from ppo2.envs import AnyEnvs
from ppo2.evaluation.evaluate import Evaluation, NDArray, run_episodes
from ppo2.evaluation.limits import EpisodeLimit
from ppo2.evaluation.not_finite import NotFiniteError
from ppo2.training.loop import Task
from ppo2.training.saver import Saver
from ppo2.training.setup import Setup


class Evaluator(Task):
    """Evaluates the model at an interval, with frozen statistics and on the same episodes' seeds each time.

    Its figures go to the next row of the log (`Setup.evaluation`), and to the saver, which keeps the best model.
    """

    def __init__(self, setup: Setup, env: AnyEnvs, saver: Saver) -> None:
        self._setup, self._env, self._saver = setup, env, saver
        self._said: set[int] = set()
        self.interval = setup.eval_interval

    def _say(self, text: str) -> None:
        """Says what an evaluation tells of its episodes, in the first that has anything to tell."""
        self._said.add(self._update)
        if len(self._said) == 1:
            self._setup.logger.warn(f"the evaluation at update {self._update}: warning: {text}")

    def run(self, update: int, stats: UpdateStats) -> bool:
        """See `Task`. An evaluation that a signal breaks off leaves no figures; the resumed run makes it again."""
        self._evaluate(update)
        setup = self._setup
        has_result = setup.evaluated == update and setup.last_evaluation is not None
        return has_result and setup.moments.evaluated(update, stats)

    @heartbeat.allow_pause()
    def _evaluate(self, update: int) -> None:
        config, signal = self._setup.config, self._setup.signal
        self._update = update
        if config.keep is not None:
            self._saver.wait_until_written()  # the best one so far may have failed to be written
        mine, fault = Evaluation(np.zeros(0), np.zeros(0)), ""
        try:
            # The same seed each time: evaluations differ by the policy, not by luck of the first states.
            mine = run_episodes(
                self._setup.model,
                self._env,
                episodes=config.eval_episodes,
                deterministic=True,
                seed=config.seed,
                info_keys=config.info_keys,
                limit=EpisodeLimit(self._env, say=self._say),
                until=lambda: signal.stop.received is not None,
                share=distributed.world(),
            )
        except NotFiniteError as error:
            fault = str(error)
        numbers = {key: values.tolist() for key, values in mine.infos.items()}
        parts = signal.all_gather([mine.returns.tolist(), mine.lengths.tolist(), numbers, fault])
        if signal.received is not None:
            return
        returns, lengths, infos, faults = zip(*parts, strict=True)
        if fault := next(filter(None, faults), ""):
            if config.on_nonfinite == "raise":
                raise ValueError(f"the evaluation at update {update}: {fault}")
            self._setup.logger.warn(f"the evaluation at update {update} was broken off: {fault}")
            self._setup.evaluated, self._setup.last_evaluation = update, None
            return
        result = Evaluation(np.concatenate(returns), np.concatenate(lengths), _joined(infos, list(map(len, returns))))
        with signal.stop.deferred():
            self._setup.evaluation.update(evaluation_figures(result))
            if config.keep is not None and math.isfinite(result.mean):
                self._saver.offer_best(update, result.mean)
            self._setup.evaluated, self._setup.last_evaluation = update, result


def _joined(infos: Sequence[Mapping[str, Sequence[float]]], counts: Sequence[int]) -> dict[str, NDArray]:
    """The numbers of `info` of all processes' episodes; NaN where a process has none of a name.

    Args:
        counts: number of each process's episodes.
    """
    parts = list(zip(infos, counts, strict=True))
    return {
        key: np.concatenate([np.array(part.get(key, [np.nan] * count), float) for part, count in parts])
        for key in dict.fromkeys(key for part in infos for key in part)
    }
