"""Learning curves of several seeds, with what is known of them: interquartile means and confidence bands.

Source: Agarwal et al. 2021, arXiv:2108.13264.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo2.plot.series import RECENT_WORDS, Line, thinned
from ppo2.reporting.run_curve import Floats

FEWEST_SEEDS = 3
"""Runs that a confidence band needs."""

Curves = Sequence[tuple[Floats, Floats]]
"""(timesteps, returns) of each run, all at the same timesteps."""


def confidence(groups: Sequence[tuple[str, Curves]], out: Path, *, title: str) -> Path | None:
    """Draws learning curves with what is known of them: for each (label, curves of its runs), the interquartile mean
    and a band that holds it with 95 % confidence, by bootstrap over the runs. None where no run has a value.

    Of more groups than colours, those that ended highest.
    """
    from ppo2.plot.drawing import COLORS, Panel, figure_of, write

    found = [(label, kept) for label, curves in groups if (kept := _common(curves)) is not None]
    if not found:
        return None
    found.sort(key=lambda one: iqm(one[1][1][:, -1]), reverse=True)
    lines = [_confident_line(label, *kept) for label, kept in found[: len(COLORS)]]
    left_out = f"the best {len(COLORS)} of {len(found)}" if len(found) > len(COLORS) else ""
    banded = any(line.low is not None for line in lines)
    meaning = "line: interquartile mean over seeds, band: 95 % confidence" if banded else ""
    panel = Panel(
        lines,
        "environment timesteps",
        f"episode return (sum of rewards),\n{RECENT_WORDS}",
        band="95 % confidence",
    )
    write(figure_of([panel], title, "; ".join(filter(None, (meaning, left_out)))), out)
    return out


def iqm(values: Floats | Sequence[float]) -> float:
    """The mean of the middle half of the finite values; NaN if there are none."""
    from scipy.stats import trim_mean

    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    return float(trim_mean(finite, 0.25)) if finite.size else float("nan")


def _common(curves: Curves) -> tuple[Floats, Floats] | None:
    """Timesteps, and returns (runs, timesteps), where every run has one; None if there are none."""
    curves = [curve for curve in curves if len(curve[0])]  # without runs that were stopped before their first row
    points = min((len(timesteps) for timesteps, _ in curves), default=0)
    returns = np.array([values[:points] for _, values in curves])
    kept: NDArray[Any] = thinned(np.flatnonzero(np.isfinite(returns).all(0))) if curves else np.empty(0)
    return (curves[0][0][kept].astype(np.float64), returns[:, kept]) if len(kept) else None


def _confident_line(label: str, timesteps: Floats, returns: Floats) -> Line:
    from scipy.stats import bootstrap, trim_mean

    middle = trim_mean(returns, 0.25, axis=0)
    if len(returns) < FEWEST_SEEDS:
        return Line(label, timesteps, middle)
    interval = bootstrap(
        (returns,),
        lambda sample, axis: trim_mean(sample, 0.25, axis=axis),
        axis=0,
        n_resamples=1000,
        batch=50,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Line(label, timesteps, middle, interval.low, interval.high)
