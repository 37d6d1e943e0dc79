"""The result of a search, and the files that have it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppo2.config import jsonable, settings_file
from ppo2.sweeps.result import write_csv
from ppo2.system import files
from ppo2.system.text import say_error
from ppo2.tuning import directory, pictures
from ppo2.tuning.study import Told
from ppo2.tuning.verdict import PRESET, Estimate, Verdict

TEXTS = {
    "env": "id of the environment",
    "network": "network of the policy: `ppo2 networks` lists them",
    "value_network": "shared: the value is a second head on the network; copy: it has a network of its own",
    "num_envs": "environments, stepped side by side",
}
"""Words for the file, in place of those for callers in Python."""


@dataclass(eq=False)
class Tuning:
    """The result of `tune`.

    Attributes:
        env: the argument of `tune`.
        best_settings: arguments for `learn(env=env, **best_settings)`: the preset's and those given, with what was
            found in place of theirs.
        best_trial: number of the trial that has them; 0: the preset's.
        value: mean return with them: over trainings with new seeds, or where these were not made, in the trial; NaN
            where no trial is complete.
        interval: the interval that holds it with 95 % confidence, over these seeds; infinite without.
        preset_value, preset_interval: the same of the preset.
        verdict: the comparison with the preset, in full (`ppo2.tuning.verdict.Verdict`); None where it was not made.
        trials: one dict a trial: `trial`, `status` ("complete", "pruned", "failed", "running"), `value`, the mean
            return of its evaluation at the end, over its seeds; `percent` of training after which it ended, `last`, the
            mean return seen last; every setting that was searched, and `error`.
        importances: share of each parameter in what sets the best trials apart, the greatest first; {} of few trials.
        path: the directory that has it all; None where nothing is written.
        failures: the errors of trials that failed in this call, by number.
        unsaved: words about why not all of it is on the disk; "" where all is well.
    """

    env: Any
    best_settings: dict[str, Any]
    best_trial: int
    value: float
    interval: tuple[float, float]
    preset_value: float
    preset_interval: tuple[float, float]
    verdict: Verdict | None
    trials: list[dict[str, Any]] = field(repr=False)
    importances: dict[str, float] = field(repr=False)
    path: Path | None
    failures: dict[int, Exception] = field(default_factory=dict, repr=False)
    unsaved: str = ""

    @property
    def command(self) -> str:
        """The command, or the call in Python, that trains with the best settings."""
        if self.path is not None and isinstance(self.env, str):
            return f"ppo2 train --config {shlex.quote(str(self.path / directory.BEST))}"
        return "ppo2.learn(env=..., **result.best_settings)"

    def words(self) -> str:
        """The result, in a few lines."""
        if self.verdict is None:
            if math.isnan(self.value):
                return "no trial is complete"
            if [row["trial"] for row in self.trials if row["status"] == "complete"] == [PRESET]:
                return f"the preset's trial has {self.value:.1f}, and no other trial is there to compare it with"
            return f"best so far: trial {self.best_trial}, {self.value:.1f}, not compared with the preset on new seeds"
        verdict = self.verdict
        return (
            f"{verdict.words()}\n"
            f"trial {verdict.trial} {verdict.tuned}, the preset {verdict.preset}: mean return over "
            f"{verdict.tuned.seeds} new seeds each, and its interval of 95 % confidence"
        )


def result_of(
    env: Any,
    trials: Sequence[Told],
    settings: Mapping[int, Mapping[str, Any]],
    searched: Sequence[str],
    verdict: Verdict | None,
    importances: Mapping[str, float],
    path: Path | None,
) -> Tuning:
    """The result so far.

    Args:
        settings: settings of each trial, by number; of `PRESET` also where there is no such trial yet.
        searched: names of the settings that were searched.
    """
    nothing = Estimate(math.nan, -math.inf, math.inf, 0)
    alone = {told.number: nothing._replace(mean=told.value, seeds=1) for told in trials if told.status == "complete"}
    if verdict is None:
        best = max(alone, key=lambda number: alone[number].mean, default=PRESET)
        mine, theirs = alone.get(best, nothing), alone.get(PRESET, nothing)
    else:
        best, theirs = verdict.winner, verdict.preset
        mine = theirs if best == PRESET else verdict.tuned
    rows = [_row(told, settings[told.number], searched) for told in trials]
    return Tuning(
        env=env,
        best_settings=dict(settings[best]),
        best_trial=best,
        value=mine.mean,
        interval=(mine.low, mine.high),
        preset_value=theirs.mean,
        preset_interval=(theirs.low, theirs.high),
        verdict=verdict,
        trials=rows,
        importances=dict(importances),
        path=path,
    )


def _row(told: Told, settings: Mapping[str, Any], searched: Sequence[str]) -> dict[str, Any]:
    percent = 100 if told.status == "complete" else max(told.seen, default=0)
    last = told.seen[max(told.seen)] if told.seen else told.value
    mine = {name: settings.get(name) for name in searched}
    return {
        "trial": told.number, "status": told.status, "value": told.value, "percent": percent, "last": last, **mine,
        "error": told.error,
    }  # fmt: skip


def save(result: Tuning, trials: Sequence[Told]) -> str:
    """Writes table, pictures and the best settings into the study's directory; returns why it couldn't, if so."""
    path = result.path
    if path is None:
        return ""
    try:
        _write_table(path / directory.TABLE, result.trials)
        title = f"{env_name(result.env)}: {len(trials)} trials"
        if trials:
            pictures.history(trials, path / directory.HISTORY, title=title)
        if result.importances:
            pictures.importance(result.importances, path / directory.IMPORTANCE, title=title)
        if not math.isnan(result.value):
            files.replace(path / directory.BEST, _best(result, trials).encode())
    except OSError as error:
        words = f"the results could not be saved whole in {path} ({error.strerror or error}). "
        words += f"{files.remedy(error).capitalize()}; then the same call writes them."
        say_error(words)
        return words
    return ""


def env_name(env: Any) -> str:
    """The name of an environment, in any form."""
    plain = jsonable(getattr(getattr(env, "spec", None), "id", None) or env)
    return str(plain["object"]) if isinstance(plain, dict) else str(plain)


def _best(result: Tuning, trials: Sequence[Told]) -> str:
    """The file with the best settings, whose comment says where they come from."""
    counts = {status: sum(told.status == status for told in trials) for status in ("complete", "pruned", "failed")}
    listed = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    which = "the preset's, with which the search began" if result.best_trial == PRESET else f"trial {result.best_trial}"
    title = [
        f"Settings for {env_name(result.env)} that `ppo2 tune` found: {which}, of {len(trials)} trials ({listed}) "
        f"in the study in {result.path}.",
        *result.words().splitlines(),
        f"To train with them: {result.command}",
    ]
    settings = {"env": result.env, **result.best_settings}
    return settings_file.text(settings, title="\n".join(title), texts=TEXTS)


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        write_csv(path, rows[0], (map(_cell, row.values()) for row in rows))
    else:
        files.replace(path, b"")


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value
