"""`ppo2 report` and `ppo2 watch`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ppo2.cli.options import Debug
from ppo2.cli.output import say, start_jax

if TYPE_CHECKING:
    from ppo2.reporting.run_curve import Floats

Run = Annotated[Positional[Path], arg(metavar="RUN", help="run directory, also of an unfinished run or of a sweep")]
More = Annotated[Positional[tuple[Path, ...]], arg(metavar="[RUN ...]", help="more runs", help_behavior_hint="")]


@dataclasses.dataclass(kw_only=True)
class Report:
    """Write a report about runs: one page of HTML that needs no network, with curves, diagnostics and films."""

    run: Run
    more: More = ()
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE", help="page to write")] = Path("report.html")
    evaluate: Annotated[
        int,
        arg(metavar="EPISODES", help="episodes to play with each run's newest policy, for a histogram of returns"),
    ] = 0
    seed: Annotated[int, arg(help="seed of these episodes")] = 0
    video: Annotated[
        Path | None, arg(metavar="FILE", help="film to show; None: the newest one in each run's directory")
    ] = None
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2.reports.page import report

        if self.evaluate < 0:
            raise ValueError(f"`evaluate` (={self.evaluate}) counts episodes; 0 plays none")
        runs = [self.run, *self.more]
        path = report(runs, self.out, evaluations=self._evaluations(runs), video=self.video)
        say(f"wrote {path}")
        return 0

    def _evaluations(self, paths: list[Path]) -> "dict[str, Floats]":
        """The returns of episodes that each run's newest policy plays, by the run's name."""
        if not self.evaluate:
            return {}
        import numpy as np

        from ppo2.agent.loading import load
        from ppo2.evaluation.evaluate import evaluate
        from ppo2.reports.runs import gather, policy_of

        start_jax("cpu")
        found = {}
        for run in gather(paths):
            model = load(policy_of(run), device="cpu")
            env = model.config.env
            if not isinstance(env, str):
                raise ValueError(
                    f"`evaluate`: {run.name} was trained on an environment given as an object; evaluate it in Python "
                    "(ppo2.evaluate), and give ppo2.report the returns as `evaluations`"
                )
            result = evaluate(model, env, episodes=self.evaluate, seed=self.seed, device="cpu")
            say(f"{run.name}: mean return {result.mean:.2f} of {self.evaluate} episodes")
            found[run.name] = np.asarray(result.returns, np.float64)
        return found


@dataclasses.dataclass(kw_only=True)
class Watch:
    """Serve the report of runs live while they train, only to this machine; Ctrl-C ends it."""

    run: Annotated[
        Positional[Path], arg(metavar="RUN", help="run directory, also of a run that has not begun, or of a sweep")
    ]
    more: More = ()
    port: Annotated[int | None, arg(help="port of the page; None: the first free one from 8420 on")] = None
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2.reports.watch import serve

        serve([self.run, *self.more], self.port, say)
        return 0
