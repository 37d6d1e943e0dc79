"""Pictures of a study: what came of its trials one after another, and which settings that depended on."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ppo2.tuning.study import Told


def history(trials: Sequence[Told], out: Path, *, title: str) -> None:
    """Draws the mean return of each trial, of those that were given up the last that was seen, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    from ppo2.plot.drawing import COLORS, CurveFigure, write

    complete = [told for told in trials if told.status == "complete"]
    pruned = [told for told in trials if told.status == "pruned" and told.seen]
    figure = CurveFigure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [told.number for told in complete], [told.value for told in complete], color=COLORS[0], s=28, label="trial"
    )
    if pruned:
        last = [told.seen[max(told.seen)] for told in pruned]
        style: dict[str, Any] = {"color": "0.6", "s": 24, "marker": "x"}
        axes.scatter([told.number for told in pruned], last, label="given up early, at its last evaluation", **style)
    best, steps = -math.inf, list[tuple[int, float]]()
    for told in complete:
        best = max(best, told.value)
        steps.append((told.number, best))
    if steps:
        steps.append((trials[-1].number, best))
        axes.step(*zip(*steps, strict=True), where="post", color=COLORS[1], linewidth=2, label="best so far")
    if trials and trials[0].status == "complete":
        axes.axhline(trials[0].value, color="0.3", linewidth=1, linestyle=":", label="the preset's trial")
    axes.set_xlabel("trial")
    axes.set_ylabel("mean return of an evaluation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.5", alpha=0.2, linewidth=0.8)
    axes.set_title(title, loc="left", fontweight="bold", pad=12, parse_math=False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    write(figure, out)


def importance(shares: Mapping[str, float], out: Path, *, title: str) -> None:
    """Draws the share of each parameter in what made trials good, as bars."""
    from ppo2.plot.drawing import COLORS, CurveFigure, write

    names = sorted(shares, key=lambda name: shares[name])
    figure = CurveFigure(figsize=(8, 1.4 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name.replace("_schedule", "'s schedule") for name in names], [shares[n] for n in names])
    for bar in bars:
        bar.set_color(COLORS[0])
    axes.bar_label(bars, labels=[f"{shares[name]:.0%}" for name in names], padding=4, fontsize="small")
    axes.set_xlim(0, max(0.1, *shares.values()) * 1.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share in what sets the best trials apart (PED-ANOVA)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontweight="bold", pad=12, parse_math=False)
    write(figure, out)
