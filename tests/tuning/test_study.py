"""The study: the same trials from the same seed, also after a break; what is told is kept."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ppo2.tuning.axes import Choice, Range
from ppo2.tuning.study import Study, check_optuna, opened

pytest.importorskip("optuna")

PARAMETERS = {"lr": Range(1e-4, 1e-2, log=True), "gamma": Choice((0.9, 0.99, None)), "noptepochs": Range(1, 9, False)}
FIRST = {"lr": 1e-3, "gamma": 0.99, "noptepochs": 4}


@contextlib.contextmanager
def study(file: Path | None = None, seed: int = 1) -> Iterator[Study]:
    with opened(file, PARAMETERS, seed, prunes=True, together=False) as made:
        yield made


def make(one: Study, count: int) -> None:
    """Makes trials whose value is the closeness of lr to 3e-3."""
    for _ in range(count):
        told = one.ask(FIRST if not one.trials else None)
        one.finish_seed(told.number, 0, -abs(math.log(told.parameters["lr"] / 3e-3)))
        one.complete(told.number)


def test_the_same_seed_makes_the_same_trials_whatever_breaks_between(tmp_path: Path) -> None:
    file = tmp_path / "a ?#% b" / "study.db"
    file.parent.mkdir()
    for count in (3, 1, 8):
        with study(file) as one:
            make(one, count)
            broken = one.trials
    with study() as whole, study(seed=2) as other:
        make(whole, 12)
        make(other, 12)
        assert [told.parameters for told in whole.trials] == [told.parameters for told in broken]
        assert whole.trials[0].parameters == other.trials[0].parameters == FIRST
        assert whole.trials[1].parameters != other.trials[1].parameters
        assert len({told.parameters["lr"] for told in whole.trials}) == 12
        assert next(iter(whole.importances())) == "lr"


def test_a_trial_that_was_broken_off_goes_on_in_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    with study(file) as one:
        made = one.ask(FIRST)
        one.see(0, 20, 5.0)
        one.finish_seed(0, 1, 4.0)
        one.seconds = 12.5
        one.finish_final("choice 1 0", 3.0)
        one.finish_final("choice 1 1", math.nan)
    with study(file) as one:
        (told,) = one.trials
        assert (told.status, told.parameters, told.seen, told.values) == (
            "running",
            made.parameters,
            {20: 5.0},
            {1: 4.0},
        )
        assert one.seconds == 12.5
        assert one.final("choice 1 0") == 3.0
        assert math.isnan(one.final("choice 1 1") or 0.0)
        assert one.final("choice 2 0") is None
        one.see(0, 20, 5.0)  # again: no warning, which would be an error here
        one.finish_seed(0, 0, 6.0)
        one.complete(0)
        assert one.trials[0].value == 5.0


def test_trials_below_the_median_are_given_up_but_neither_the_first_nor_early_nor_at_the_end() -> None:
    with study() as one:
        for value in (1.0, 2.0, 3.0, 4.0, 5.0):
            number = one.ask(FIRST).number
            assert not one.see(number, 40, value)
            one.finish_seed(number, 0, value)
            one.complete(number)
        number = one.ask(FIRST).number
        assert not one.see(number, 20, 0.0)
        assert one.see(number, 40, 2.5)
        one.prune(number)
        number = one.ask(FIRST).number
        assert not one.see(number, 40, 3.5)
        assert not one.see(number, 100, 0.0)
        one.fail(number, "ValueError: no")
        assert [(told.status, told.error) for told in one.trials[-2:]] == [
            ("pruned", ""), ("failed", "ValueError: no"),
        ]  # fmt: skip


def test_a_file_that_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database" * 100)
    with pytest.raises(ValueError, match=r"study\.db can't be read"), study(tmp_path / "study.db"):
        pass


def test_a_disk_that_is_full_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"study\.db can't be written, or read .*full.*room on the disk"):
        _fill(tmp_path / "study.db")


def _fill(file: Path) -> None:
    with study(file) as one:
        storage: Any = one._study._storage
        with storage._backend.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        for place in range(500):
            one.finish_final(f"{place} " + "x" * 200, 1.0)


def test_optuna_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'ppo2\[tune\]'"):
        check_optuna()


@pytest.mark.parametrize("first", [FIRST, None])
def test_a_trial_that_was_broken_off_before_it_had_its_parameters_gets_them(
    first: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` does so after its row was written, and none of its parameters."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "study.db"
    with study(file) as one:
        make(one, 0 if first else 2)
        monkeypatch.setattr("ppo2.tuning.study._suggest", killed)
        with pytest.raises(KeyboardInterrupt):
            one.ask(first)
        monkeypatch.undo()
        assert (one.trials[-1].status, one.trials[-1].parameters) == ("running", {})
    with study(file) as again, study() as whole:
        make(whole, 3)
        told = again.trials[-1]
        assert (told.number, told.parameters) == (0 if first else 2, whole.trials[told.number].parameters)
        again.finish_seed(told.number, 0, 1.0)
        again.complete(told.number)
