"""The model card of a run: README.md, for people and for the Hugging Face Hub."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppo2.checkpoints import checkpoint
from ppo2.config import is_placeholder, secrets
from ppo2.numerics.intervals import half_width
from ppo2.reporting import repeat
from ppo2.reporting.run_curve import read_run
from ppo2.runners.episodes import EPISODE_WINDOW
from ppo2.system import files
from ppo2.system.text import printable

NAME = "README.md"
CURVE = "curve.png"
MARK = "<!-- written by ppo2 -->"
"""A card with this line is written anew as the run goes on; without it, it is a person's, and stays."""

USE = """\
```python
import ppo2

model = ppo2.load("RUN")  # this directory, or hf://user/name where it is shared
print(ppo2.evaluate(model, {env}, episodes=100))
```

```sh
ppo2 play RUN
```

Loading runs no code from the file: it holds arrays and settings (safetensors, JSON) with a checksum, and no pickle."""


class Score(NamedTuple):
    """The mean return of episodes.

    Attributes:
        half: half of the interval that holds the true mean with 95 % confidence (Student's t); NaN of one episode.
        std: standard deviation of the episodes' returns.
    """

    mean: float
    half: float
    std: float
    episodes: int

    @classmethod
    def of(cls, returns: Sequence[float]) -> "Score":
        count, values = len(returns), np.asarray(returns, np.float64)
        std = float(values.std(ddof=1)) if count > 1 else math.nan
        half = half_width(std / math.sqrt(count), count - 1) if count > 1 else math.nan
        return cls(float(values.mean()), half, std, count)

    def __str__(self) -> str:
        interval = "" if math.isnan(self.half) else f" ± {self.half:.3g}"
        return f"{self.mean:,.4g}{interval}"


def write(run_dir: Path) -> Path | None:
    """Writes the card of a run directory; None where a person has written one there.

    Raises:
        OSError, ValueError: it can't be written, or the run can't be read.
    """
    path = run_dir / NAME
    if path.exists() and (not path.is_file() or MARK not in path.read_text(encoding="utf-8", errors="replace")):
        return None
    files.replace(path, of_run(run_dir).encode())
    return path


def of_run(run_dir: Path) -> str:
    """The text of a run directory's card.

    Raises:
        ValueError: it can't be read.
    """
    run = read_run(run_dir)
    last = [float(of) for of in run.returns[-EPISODE_WINDOW:] if math.isfinite(of)]
    evaluations = run.progress.get("eval_eprewmean", np.empty(0))
    evaluations = evaluations[np.isfinite(evaluations)]
    updates = run.progress.get("misc/total_timesteps", np.empty(0))
    return _card(
        run.config,
        score=Score.of(last) if last else None,
        evaluated=float(evaluations[-1]) if evaluations.size else None,
        timesteps=int(updates[-1]) if updates.size else None,
        has_curve=(run_dir / CURVE).is_file(),
    )


def of_checkpoint(file: Path) -> str:
    """The text of a card for a checkpoint by itself, of which no episodes are known.

    Raises:
        ValueError: it is none.
    """
    return _card(checkpoint.load(file).section("config"), score=None, evaluated=None, timesteps=None, has_curve=False)


def _card(
    config: Mapping[str, Any],
    *,
    score: Score | None,
    evaluated: float | None,
    timesteps: int | None,
    has_curve: bool,
) -> str:
    config = secrets.shown(config)
    env, network = (_named(config.get(name)) for name in ("env", "network"))
    title = f"# PPO on {env}"
    trained = "" if timesteps is None else f" for {timesteps:,} timesteps"
    parts = [
        _front_matter(env, score),
        MARK,
        title,
        f"A policy for `{env}` (network `{network}`), trained{trained} with Proximal Policy Optimization by `ppo2`.",
        *(["![Mean return of the last 100 episodes, by timesteps](curve.png)"] if has_curve else []),
        "## Score",
        *_scores(config, score, evaluated),
        "## Use",
        USE.format(env=json.dumps(env) if isinstance(config.get("env"), str) else "env"),
        "## How it was trained",
        *_repeated(config),
        *_versions(config),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(env: str, score: Score | None) -> str:
    """Metadata for the Hub, as YAML, of which JSON is a part."""
    metric = {"type": "mean_reward", "name": "mean_reward", "value": "" if score is None else f"{score.mean:.2f}"}
    if score is not None and not math.isnan(score.std):
        metric["value"] += f" +/- {score.std:.2f}"
    result = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": env, "type": env},
        "metrics": [metric],
    }
    entries: dict[str, Any] = {
        "library_name": "ppo2",
        "pipeline_tag": "reinforcement-learning",
        "tags": ["reinforcement-learning", "ppo", "jax", env],
    }
    if score is not None:
        entries["model-index"] = [{"name": "ppo", "results": [result]}]
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in entries.items()), "---"])


def _scores(config: Mapping[str, Any], score: Score | None, evaluated: float | None) -> list[str]:
    rows = []
    if score is not None:
        rows.append(f"| the last {score.episodes} training episodes (sampled actions) | {score} |")
    if evaluated is not None:
        episodes = config.get("eval_episodes")
        rows.append(f"| the last evaluation ({episodes} episodes, statistics frozen) | {evaluated:,.4g} |")
    if not rows:
        return ["No episodes are known."]
    table = "\n".join(["| episodes | mean return |", "|---|---|", *rows])
    return [table, "± is the 95 % confidence interval of the mean (Student's t, over episodes of one training run)."]


def _repeated(config: Mapping[str, Any]) -> list[str]:
    """The command and the call that train the same policy."""
    command = repeat.command_line(config)
    parts = [] if command is None else [f"```sh\n{command}\n```"]
    parts.append(f"```python\n{repeat.python_call(config)}\n```")
    return [*parts, *filter(None, [repeat.untold(config)])]


def _versions(config: Mapping[str, Any]) -> list[str]:
    versions = config.get("versions")
    if not isinstance(versions, Mapping):
        return []
    listed = ", ".join(f"{printable(name)} {printable(version)}" for name, version in versions.items())
    sessions = config.get("sessions")
    last = sessions[-1] if isinstance(sessions, list) and sessions else {}
    machine = last.get("platform") if isinstance(last, Mapping) else None
    on = f", on {', '.join(printable(value) for value in machine.values())}" if isinstance(machine, Mapping) else ""
    return [f"With {listed}{on}."]


def _named(value: Any) -> str:
    """An id or a network's name as text; of an object, its own."""
    if is_placeholder(value):
        return printable(value["object"])
    return printable(value)
