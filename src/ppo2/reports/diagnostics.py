"""Diagnoses: for each figure of the log a sentence on what is healthy, and one on what a run shows.

The bounds are those of `reporting/health.py`, which warns while a run trains.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from ppo2.plot.series import UPDATES
from ppo2.reporting import health
from ppo2.reporting.figures import human
from ppo2.reporting.run_curve import Floats
from ppo2.reports.runs import Run

Verdict = Literal["good", "look", "bad", "none"]
LATE = 0.25
"""Share of the rows, the last ones, by which a run is judged."""
TIME = {"step": "stepping environments", "act": "acting", "train": "training"}
ADVICE = {
    "step": "most goes to the environments; more workers or a faster environment would help",
    "act": "most goes to choosing actions; more environments (`num_envs`) share the cost of a step",
    "train": "most goes to gradient steps; fewer `noptepochs`, or a GPU for a large network, would help",
}


class Finding(NamedTuple):
    """Verdict on a run, by one of its figures."""

    verdict: Verdict
    words: str


NOTHING = Finding("none", "nothing is logged yet")


class Diagnosis(NamedTuple):
    """A figure of the log, and how to read it.

    Attributes:
        columns: columns of the log that are drawn.
        healthy: a sentence.
        judge: finds what a run shows.
    """

    title: str
    columns: tuple[str, ...]
    healthy: str
    judge: Callable[[Run], Finding]


def _values(run: Run, name: str) -> tuple[Floats, Floats]:
    """The updates and finite values of a column."""
    values, updates = run.column(name), run.column(UPDATES)
    updates = updates if len(updates) == len(values) else np.arange(1.0, len(values) + 1)
    there = np.isfinite(values) & np.isfinite(updates)
    return updates[there], values[there]


def _late(values: Floats) -> float:
    """The median of the last values."""
    return float(np.median(values[-max(1, math.ceil(LATE * len(values))) :]))


def _summary(updates: Floats, values: Floats) -> str:
    at = int(values.argmax())
    return f"usually {human(_late(values))} of late, highest {human(float(values[at]))} at update {updates[at]:,.0f}"


def _kl(run: Run) -> Finding:
    updates, kl = _values(run, health.KL)
    if not kl.size:
        return NOTHING
    usual, words = _late(kl), _summary(updates, kl)
    if usual > health.KL_LEAST or (kl > health.KL_TWICE).sum() > 1 or kl.max() > health.KL_ONCE:
        return Finding("bad", f"{words}: the policy jumps; lower `lr` or `noptepochs`, or set `target_kl=0.03`")
    if kl.max() > health.KL_LEAST:
        return Finding("look", f"{words}: single updates went far; `target_kl=0.03` would cut them short")
    if usual < health.KL_STILL:
        return Finding("look", f"{words}: the policy hardly moves any more; it is done, or `lr` is too low")
    return Finding("good", f"{words}: healthy")


def _clip(run: Run) -> Finding:
    updates, share = _values(run, health.CLIP)
    if not share.size:
        return NOTHING
    usual, at = _late(share), int(share.argmax())
    words = f"usually {usual:.1%} of late, highest {share[at]:.1%} at update {updates[at]:,.0f}"
    if usual > health.CLIP_MUCH:
        return Finding("bad", f"{words}: much of the gradient is cut off; lower `lr` or `noptepochs`")
    if usual < health.CLIP_LITTLE:
        return Finding("look", f"{words}: the clip hardly ever acts; a higher `lr` may learn faster")
    return Finding("good", f"{words}: healthy")


def _explained(run: Run) -> Finding:
    _, explained = _values(run, health.EXPLAINED)
    if not explained.size:
        return NOTHING
    usual, words = _late(explained), f"{human(_late(explained))} of late, {human(float(explained.max()))} at best"
    _, loss = _values(run, health.VALUE_LOSS)
    if usual >= health.EXPLAINED_WELL:
        return Finding("good", f"{words}: healthy")
    if loss.size and _late(loss) < health.BLIND_SHARE * loss.max():
        little = f"the value loss is below {health.BLIND_SHARE:.0%} of its peak, so that little is left to explain"
        return Finding("good", f"{words}, but {little}")
    if usual < 0:
        remedy = "try `normalize_rewards=True`, or `value_network='copy'`, unless all returns are alike"
        return Finding("bad", f"{words}: worse than a constant; {remedy}")
    return Finding("look", f"{words}: returns are known in part; give it time, or try `normalize_rewards=True`")


def _entropy(run: Run) -> Finding:
    updates, entropy = _values(run, health.ENTROPY)
    if not entropy.size:
        return NOTHING
    first, now = float(np.median(entropy[:3])), float(entropy[-1])
    words = f"from {human(first)} to {human(now)}"
    if now > health.entropy_bound(first):
        return Finding("bad", f"{words}: it explodes; actions get ever more random: lower `ent_coef` or `lr`")
    floor = health.ENTROPY_SHARE * first
    if not 0 <= now < floor:  # of continuous actions any sign is sound
        return Finding("good", f"{words}: healthy")
    at = updates[int((entropy < floor).argmax())]
    if at <= health.ENTROPY_EARLY * max(run.updates[1] or 0, updates[-1]):
        return Finding("bad", f"{words}, most of it by update {at:,.0f}: exploration ended early; raise `ent_coef`")
    return Finding("look", f"{words}: little exploration is left, which is fine where returns are as they should be")


def _gradient(run: Run) -> Finding:
    updates, norm = _values(run, health.GRADIENT)
    if not norm.size:
        return NOTHING
    limit = run.setting("max_grad_norm", float) or run.setting("max_grad_norm", int)
    words = _summary(updates, norm)
    if limit:
        words += f"; above `max_grad_norm` (={limit:g}), and scaled down to it, in {(norm > limit).mean():.0%} of rows"
    if not norm.max() > health.GRADIENT_TIMES * float(np.median(norm)) > 0:
        return Finding("good", f"{words}: healthy")
    if limit:
        return Finding("look", f"{words}: there are spikes; look at the rewards and the value loss at that update")
    return Finding("bad", f"{words}: it explodes, and nothing limits it; set `max_grad_norm=0.5`")


def _time(run: Run) -> Finding:
    shares = {part: _values(run, f"time/{part}")[1] for part in TIME}
    late = {part: _late(share) for part, share in shares.items() if share.size}
    if not late:
        return Finding("none", "not logged; on the device all of it is one program")
    words = ", ".join(f"{TIME[part]} {share:.0%}" for part, share in late.items())
    most = max(late, key=lambda part: late[part])
    return Finding("good" if late[most] < health.TIME_MOST else "look", f"{words}: {ADVICE[most]}")


DIAGNOSES = (
    Diagnosis(
        "Approximate KL divergence",
        (health.KL,),
        f"How far an update moves the policy. Healthy: about 0.003 to 0.03, and never far above {health.KL_LEAST:g}.",
        _kl,
    ),
    Diagnosis(
        "Clip fraction",
        (health.CLIP,),
        "Share of the samples whose probability ratio met the clip range. Healthy: about 2 % to 30 %; with none, "
        f"updates are timid, above {health.CLIP_MUCH:.0%} they are wild.",
        _clip,
    ),
    Diagnosis(
        "Explained variance",
        (health.EXPLAINED,),
        "Share of the returns' variance that the value function predicts. Healthy: it rises to "
        f"{health.EXPLAINED_WELL:g} and more; 0 is what a constant explains.",
        _explained,
    ),
    Diagnosis(
        "Policy entropy",
        (health.ENTROPY,),
        "Randomness of the actions. Healthy: it falls slowly while returns rise. Lost at once, exploration ends; if it "
        "rises on and on, the policy dissolves. (Of continuous actions it may be negative.)",
        _entropy,
    ),
    Diagnosis(
        "Gradient norm",
        (health.GRADIENT,),
        "Length of the gradient before it is clipped. Healthy: about one order of magnitude, without spikes; it is "
        "often above `max_grad_norm`.",
        _gradient,
    ),
    Diagnosis(
        "Shares of time",
        tuple(f"time/{part}" for part in TIME),
        "Parts of the time on host environments. Healthy: none that dwarfs the others.",
        _time,
    ),
)


def warnings_of(run: Run) -> list[str]:
    """The warnings that the log gave while it was written."""
    judge, found = health.Health(), list[str]()
    columns = [run.column(key) for key in judge.keys]
    updates = run.column(UPDATES)
    for update, *figures in zip(updates.tolist(), *(column.tolist() for column in columns), strict=False):
        row = dict(zip(judge.keys, figures, strict=True))
        found += [f"update {update:,.0f}: {words.removeprefix('warning: ')}" for words in judge.warnings(row)]
    return found
