"""Signs of a training that collapses, in the figures that are logged anyway.

The bounds come from 31 ordinary runs (CartPole, Pendulum, LunarLander, seven tasks of MuJoCo), which give no warning,
and from nine with a learning rate of 0.03 to 0.1 or an entropy bonus of 1, all of which give one.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, pvariance
from typing import Any

KL, VALUE_LOSS, ENTROPY = "loss/approxkl", "loss/value_loss", "loss/policy_entropy"
EXPLAINED = "misc/explained_variance"
CLIP, GRADIENT = "loss/clipfrac", "misc/grad_norm"

ROWS_BEFORE = 10
"""Rows of the log that are needed for the usual value of a figure."""
USUAL_ROWS = 50
"""Most rows before, whose median is the usual value."""
KL_TIMES, KL_LEAST, KL_TWICE, KL_ONCE = 10.0, 0.1, 1.0, 10.0
"""Bounds of the approximate KL: times the usual and at least; in two rows of five; in one row. A cliprange of 0.2 keeps
it near 0.01. In ordinary runs it rarely reaches 0.2, and not in two rows; where training diverges it is 1 to 100,000
from the first update on, so that nothing else is ever usual."""
VALUE_LOSS_TIMES, VALUE_LOSS_PEAKS = 100.0, 10.0
"""Bounds of the value loss: times the usual, and times its peak, as the usual is next to nothing in a solved task."""
FAR_LOSS = 1e10
"""Value loss above which hardly any of a clipped gradient is the policy's: returns of some 100,000."""
BLIND_ROWS, BLIND, BLIND_SHARE = 20, -1.0, 0.01
"""Rows with an explained variance below the second number are a sign, unless the value loss is below this share of its
peak: then the task is solved, and there is no variance left to explain."""
ENDLESS_UPDATES, ENDLESS_STEPS = 20, 20_000
"""Updates, or steps of each environment, without the end of any episode that are a sign."""

FIRST_EPISODES, FIRST_SHARE = 30, 0.1
"""Episodes that show how well an untrained policy does: as many as end first, within this share of all updates."""
LEAST_UPDATES, LEAST_STEPS = 20, 20_000
"""Updates and timesteps before which nobody expects to see that something was learned."""
ERRORS = 2.0
"""Standard errors by which later returns must be higher than the first ones: returns that only scatter are so in one
run of forty."""
KL_STILL = 1e-5
"""Approximate KL below which a policy hardly moves."""
CLIP_LITTLE, CLIP_MUCH = 1e-3, 0.4
"""Bounds of the share of samples that were clipped, within which a report calls it healthy."""
EXPLAINED_WELL = 0.5
"""Explained variance from which on a report calls it healthy."""
ENTROPY_SHARE, ENTROPY_EARLY = 0.05, 0.2
"""Share of the first entropy below which actions are nearly certain, and share of the updates that are early."""
GRADIENT_TIMES = 100.0
"""Bound of the gradient's norm: times the usual."""
TIME_MOST = 0.85
"""Share of the time from which on a report calls a part one that dwarfs the others."""

Seen = Mapping[str, list[float]]
"""Figures so far, by key."""


class Health:
    """Looks at the rows of a log, and warns once of each bad sign.

    It judges by what was usual in this very training, knows nothing of the environment, and changes nothing.
    """

    keys = (KL, VALUE_LOSS, ENTROPY, EXPLAINED)
    """The figures that it looks at."""

    def __init__(self) -> None:
        self._signs = [_kl, _value_loss, _far, _entropy, _blind]
        self._seen: dict[str, list[float]] = {key: [] for key in self.keys}

    def warnings(self, row: Mapping[str, float]) -> list[str]:
        """Warnings that the next row gives reason for."""
        figures = {key: float(row.get(key, math.nan)) for key in self._seen}
        if not all(map(math.isfinite, figures.values())):  # no figures of an update that was skipped
            return []
        for key, figure in figures.items():
            self._seen[key].append(figure)
        found = [(sign, words) for sign in self._signs if (words := sign(self._seen))]
        for sign, _ in found:
            self._signs.remove(sign)
        return [f"warning: {words}" for _, words in found]


class EndlessEpisodes:
    """Warns once where no episode has ended after many updates.

    Args:
        nsteps: steps of each environment in an update.
        time_limit: steps after which the environment ends every episode, before which there is no sign; None: unknown.
        update: the last update that was made before, in a run that goes on.
        episodes: number of episodes that ended by then.
    """

    def __init__(self, nsteps: int, time_limit: int | None, *, update: int, episodes: int) -> None:
        self._nsteps, self._limit, self._is_silent = nsteps, time_limit or 0, False
        self.warning(update, episodes)  # the run gave it before it was stopped

    def warning(self, update: int, episodes: int) -> str | None:
        """The warning after an update, given the number of episodes so far; None where there is no reason for one."""
        steps = update * self._nsteps
        few = (update < ENDLESS_UPDATES and steps < ENDLESS_STEPS) or steps <= self._limit
        if self._is_silent or few or episodes:
            return None
        self._is_silent = True
        return (
            f"warning: no episode has ended in {update:,} updates ({steps:,} steps of each environment), so that there "
            "is no return to log. If the environment never ends an episode, give it a time limit: "
            "gymnasium.wrappers.TimeLimit (ppo2.envs.TimeLimit on the device), or `max_episode_steps` of ppo2.make"
        )


class NoProgress:
    """Warns where returns are no higher than those of the untrained policy, half way and at the end.

    It compares the mean return of the last episodes with that of the first (FIRST_EPISODES): by Welch's standard error
    of the difference, the later mean must be higher by ERRORS of it. It is silent where that shows nothing: in a run
    that goes on, or begins with trained weights; before LEAST_UPDATES and LEAST_STEPS; where too few episodes ended;
    and where the environment's own threshold is reached.

    Args:
        updates: all of the run.
        nbatch: timesteps of an update.
        threshold: the return at which the environment counts as solved; None: unknown.
        doctor: the call, or the command, that checks the environment.
        fresh: the run begins, with an untrained policy.
    """

    def __init__(self, updates: int, nbatch: int, threshold: float | None, doctor: str, *, fresh: bool) -> None:
        self._updates, self._nbatch, self._threshold, self._doctor = updates, nbatch, threshold, doctor
        self._fresh, self._first, self._is_over = fresh, list[float](), False

    def note(self, update: int, ended: Sequence[Any]) -> None:
        """Notes episodes that ended in an update, each of which has a return `r`."""
        if self._is_over or not self._fresh:
            return
        self._first += [one.r for one in ended[: FIRST_EPISODES - len(self._first)]]
        self._is_over = len(self._first) >= FIRST_EPISODES or update >= FIRST_SHARE * self._updates

    def warning(self, update: int, last: Sequence[float]) -> str | None:
        """The warning after an update, given the last episodes' returns; None where there is no reason for one."""
        first, few = self._first, min(len(self._first), len(last)) < FIRST_EPISODES
        if few or update < LEAST_UPDATES or update * self._nbatch < LEAST_STEPS:
            return None
        before, now = fmean(first), fmean(last)
        if self._threshold is not None and now >= self._threshold:
            return None
        error = math.sqrt(pvariance(first) / len(first) + pvariance(last) / len(last))
        if not math.isfinite(now - before) or now - before > ERRORS * error:
            return None
        so_far = "" if update >= self._updates else " so far"
        return (
            f"warning: the mean return of the last {len(last)} episodes, {now:.4g}, is not above that of the first "
            f"{len(first)}, {before:.4g}, by more than chance (standard error {error:.2g}): nothing was learned"
            f"{so_far}. {self._doctor} checks the environment and proposes settings"
        )

    @property
    def half(self) -> int:
        """The update at which it is judged first."""
        return max(1, self._updates // 2)


def _usual(figures: list[float], last: int) -> float | None:
    """The median of the figures before the last ones; None if they are too few to say."""
    before = figures[-last - USUAL_ROWS : -last]
    return median(before) if len(before) >= ROWS_BEFORE else None


def _kl(seen: Seen) -> str | None:
    kl, usual = seen[KL], _usual(seen[KL], 3)
    beyond = usual is not None and median(kl[-3:]) > max(KL_TIMES * usual, KL_LEAST)
    if not (beyond or kl[-1] > KL_ONCE or sum(x > KL_TWICE for x in kl[-5:]) > 1):
        return None
    before = "" if usual is None else f", usually {usual:.2g}"
    return (
        f"the policy changes far more in an update than it should (approximate KL {max(kl[-3:]):.2g}{before}): try a "
        "lower `lr`, fewer `noptepochs`, or `target_kl=0.03`"
    )


def _value_loss(seen: Seen) -> str | None:
    loss, usual = seen[VALUE_LOSS], _usual(seen[VALUE_LOSS], 1)
    now = loss[-1]
    if usual is None or seen[EXPLAINED][-1] > BLIND:  # a reward that was never found before is no bad sign
        return None
    peak = max(loss[:-ROWS_BEFORE], default=-math.inf)
    if now <= max(VALUE_LOSS_TIMES * usual, VALUE_LOSS_PEAKS * peak):
        return None
    return (
        f"the value loss explodes ({now:.2g}, usually {usual:.2g}): try a lower `lr`, "
        "`normalize_rewards=True`, or a smaller `max_grad_norm`"
    )


def _far(seen: Seen) -> str | None:
    if seen[VALUE_LOSS][-1] <= FAR_LOSS:
        return None
    return (
        f"returns are far from 1 (value loss {seen[VALUE_LOSS][-1]:.2g}), so that hardly any of the gradient is the "
        "policy's: try `normalize_rewards=True`, or scale rewards down, as `reward_scale` of ppo2.make does"
    )


def entropy_bound(first: float) -> float:
    """The entropy above which it explodes: of a Gaussian it begins at 1.4 for each dimension, and twice that is a
    standard deviation four times as large.
    """
    return first + max(1.5, abs(first))


def _entropy(seen: Seen) -> str | None:
    first, now = median(seen[ENTROPY][:3]), seen[ENTROPY][-1]
    if now <= entropy_bound(first):
        return None
    return (
        f"the policy's entropy explodes ({now:.2g}, {first:.2g} at first): it acts ever more at random; try a lower "
        "`ent_coef` or `lr`, or `action_dist='squashed_gaussian'`"
    )


def _blind(seen: Seen) -> str | None:
    last, loss = seen[EXPLAINED][-BLIND_ROWS:], seen[VALUE_LOSS]
    if len(last) < BLIND_ROWS or max(last) >= BLIND or median(loss[-BLIND_ROWS:]) < BLIND_SHARE * max(loss):
        return None
    return (
        f"the value function has long been worse than a constant (explained variance {last[-1]:.2g}): try "
        "`normalize_rewards=True`, `value_network='copy'`, or a lower `lr`"
    )
