"""Sentences about the figures of the log."""

import pytest

from ppo2.reports.diagnostics import DIAGNOSES, warnings_of
from ppo2.reports.runs import gather
from support.run_files import HEALTHY, write_run_files

BY_TITLE = {d.title: d for d in DIAGNOSES}
KL, CLIP, EXPLAINED, ENTROPY, GRADIENT, TIME = BY_TITLE


def finding(title, tmp_path, changes, **config):
    rows = [{**HEALTHY, **change} for change in changes]
    (run,) = gather([write_run_files(tmp_path / "x", rows=rows, **config)])
    return BY_TITLE[title].judge(run)


def test_a_healthy_run(tmp_path):
    (run,) = gather([write_run_files(tmp_path / "x")])
    assert {title: d.judge(run).verdict for title, d in BY_TITLE.items()} == dict.fromkeys(BY_TITLE, "good")
    assert not warnings_of(run)


def test_nothing_logged_yet(tmp_path):
    (run,) = gather([write_run_files(tmp_path / "x", updates=0)])
    assert {d.judge(run).verdict for d in DIAGNOSES} == {"none"}


def test_one_row_is_enough(tmp_path):
    (run,) = gather([write_run_files(tmp_path / "x", updates=1)])
    assert {d.judge(run).verdict for d in DIAGNOSES} == {"good"}


@pytest.mark.parametrize(
    ("title", "changes", "verdict", "words"),
    [
        # the last quarter of 8 rows is two
        (KL, [{}] * 6 + [{"loss/approxkl": 0.3}] * 2, "bad", "usually 0.3000 of late, highest 0.3000 at update 7"),
        (KL, [{}, {"loss/approxkl": 20}, {}, {}], "bad", "highest 20.00 at update 2"),
        (KL, [{}, {"loss/approxkl": 0.2}, {}, {}], "look", "single updates went far"),
        (KL, [{"loss/approxkl": 1e-7}] * 4, "look", "hardly moves"),
        (CLIP, [{"loss/clipfrac": 0.6}] * 4, "bad", "usually 60.0% of late, highest 60.0% at update 1"),
        (CLIP, [{"loss/clipfrac": 0.0}] * 4, "look", "hardly ever acts"),
        (EXPLAINED, [{"misc/explained_variance": -0.5}] * 4, "bad", "worse than a constant"),
        (EXPLAINED, [{"misc/explained_variance": 0.2}] * 4, "look", "known in part"),
        (
            EXPLAINED,
            [{"misc/explained_variance": 0.9, "loss/value_loss": 1000}] * 3
            + [{"misc/explained_variance": -3, "loss/value_loss": 5}],
            "good",
            "below 1% of its peak",
        ),
        (ENTROPY, [{}] * 5 + [{"loss/policy_entropy": 9}], "bad", "it explodes"),
        (ENTROPY, [{}] * 3 + [{"loss/policy_entropy": 0.001}] * 3, "bad", "most of it by update 4"),
        (ENTROPY, [{}] * 39 + [{"loss/policy_entropy": 0.001}], "look", "little exploration is left"),
        (ENTROPY, [{"loss/policy_entropy": -x} for x in range(5)], "good", "from -1.00 to -4.00"),
        (GRADIENT, [{}] * 5 + [{"misc/grad_norm": 90}], "look", "(=0.5), and scaled down to it, in 17% of rows"),
        (TIME, [{"time/step": 0.9, "time/act": 0.04, "time/train": 0.06}], "look", "stepping environments 90%"),
    ],
)
def test_what_a_run_shows(title, changes, verdict, words, tmp_path):
    found = finding(title, tmp_path, changes)
    assert (found.verdict, words in found.words) == (verdict, True), found


def test_a_gradient_that_nothing_limits(tmp_path):
    found = finding(GRADIENT, tmp_path, [{}] * 5 + [{"misc/grad_norm": 90}], max_grad_norm=None)
    assert found.verdict == "bad"
    assert "set `max_grad_norm=0.5`" in found.words


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    found = finding(KL, tmp_path, [{"loss/approxkl": x} for x in (0.01, float("nan"), float("inf"), 0.02)])
    assert found.words == "usually 0.0200 of late, highest 0.0200 at update 4: healthy"


def test_on_the_device_there_are_no_shares_of_time(tmp_path):
    row = {name: value for name, value in HEALTHY.items() if not name.startswith("time/")}
    (run,) = gather([write_run_files(tmp_path / "x", rows=[row] * 3)])
    assert BY_TITLE[TIME].judge(run).words.startswith("not logged; on the device")


def test_warnings_are_those_of_the_log(tmp_path):
    rows = [HEALTHY] * 12 + [{**HEALTHY, "loss/approxkl": 50}]
    (run,) = gather([write_run_files(tmp_path / "x", rows=rows)])
    (warning,) = warnings_of(run)
    assert warning.startswith("update 13: the policy changes far more in an update than it should")
