"""docs/benchmarks.md and the kept results; the rule of `make bench-check`."""

import copy
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
PAGES = (
    *(PAGE, ROOT / "docs" / "scaling.md", ROOT / "docs" / "recurrent-robotics.md"),
    *(ROOT / "README.md", ROOT / "README.zh-CN.md"),
)
BENCH = ("check", "curves", "document", "headline", "options", "programs", "report", "results", "tables", "workloads")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The scripts' modules, which import each other by bare name; gone again afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    yield importlib.import_module
    for name in BENCH:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_what_the_results_give(bench: Any, page: Path) -> None:
    """`make bench-docs` writes it."""
    assert page in bench("document").PAGES
    assert bench("document").written(page.read_text()) == page.read_text()


def test_the_picture_is_of_the_results(bench: Any) -> None:
    headline = bench("headline")
    with Image.open(headline.PICTURE) as picture:
        assert picture.info[headline.NAME] == headline.figures(headline.comparisons(bench("document").load))


def test_the_curves_are_of_the_kept_points(bench: Any) -> None:
    curves = bench("curves")
    with Image.open(curves.PICTURE) as picture:
        assert picture.info[curves.NAME] == curves.identity(curves.load())


def test_another_result_changes_the_page(bench: Any) -> None:
    """Also the one row whose figure changed, and no other line."""
    document = bench("document")
    changed = copy.deepcopy(document.load("host"))
    row = next(iter(changed["tables"]["settings"]["rows"].values()))
    row["cells"][0] = {"median": 98765.0, "low": 90000.0, "high": 99999.0, "unit": "steps/s"}
    page = document.written(PAGE.read_text(), lambda name: changed if name == "host" else document.load(name))
    lines = [new for old, new in zip(PAGE.read_text().splitlines(), page.splitlines(), strict=True) if old != new]
    assert len(lines) == 1
    assert "| 98,800 (90,000-100,000) |" in lines[0]


def test_every_table_is_on_the_page_and_small(bench: Any) -> None:
    marks = {mark for page in PAGES for mark in re.findall(r"<!-- table: (\S+) ([^>]+?) -->", page.read_text())}
    files = sorted((ROOT / "bench" / "results").glob("*.json"))
    kept = {(path.stem, name) for path in files for name in json.loads(path.read_text())["tables"]}
    assert marks == kept
    assert sum(path.stat().st_size for path in files) < 200_000


def test_a_mark_without_a_table(bench: Any) -> None:
    page = "<!-- table: host speeed -->\n<!-- end -->"
    with pytest.raises(ValueError, match="table: host speeed -->"):
        bench("document").written(page)


def test_new_rows_take_the_place_of_old_ones(bench: Any) -> None:
    """Others stay, with their own source; one that no row has any more is dropped."""

    def made(date: str, **rows: float) -> Any:
        of = {title: {"source": "", "cells": [value]} for title, value in rows.items()}
        about = {"date": date, "command": "c", "machine": "m", "versions": "v"}
        return {"sources": {"": about}, "tables": {"t": {"columns": ["a"], "rows": of}}, "runs": {"many": [1, 2]}}

    merged = bench("results").merged
    first = merged({}, made("2026-01-01", one=1.0, two=2.0))
    both = merged(first, made("2026-02-02", two=3.0))
    assert [(row["source"], row["cells"]) for row in both["tables"]["t"]["rows"].values()] == [
        ("2026-01-01", [1.0]),
        ("2026-02-02", [3.0]),
    ]
    assert set(both) == {"sources", "tables"}
    assert list(merged(both, made("2026-03-03", one=5.0, two=6.0))["sources"]) == ["2026-03-03"]
    same_day = merged(
        both, {**made("2026-02-02", one=4.0), "sources": {"": {**both["sources"]["2026-02-02"], "command": "d"}}}
    )
    assert list(same_day["sources"]) == ["2026-02-02", "2026-02-02b"]
    others = made("2026-04-04", one=1.0)
    others["tables"]["t"]["columns"] = ["b"]
    assert list(merged(both, others)["tables"]["t"]["rows"]) == ["one"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"median": 51712.3, "low": 48460.0, "high": 52249.0, "unit": "steps/s"}, "51,700 (48,500-52,200)"),
        ({"median": 22.5e6, "low": 22.5e6, "high": 22.8e6, "unit": "steps/s"}, "22.5 M (22.5 M-22.8 M)"),
        ({"median": 1.2551, "low": 1.094, "high": 1.308, "unit": "x"}, "**1.26** (1.09-1.31)"),
        ({"median": 0.0254, "low": 0.0229, "high": 0.0312, "unit": "x"}, "**0.025** (0.023-0.031)"),
        ({"median": 7.96, "low": 6.61, "high": 8.39, "unit": "x"}, "**8.0** (6.6-8.4)"),
        ({"median": 4.3, "low": 4.08, "high": 4.31, "unit": "s"}, "4.3 s (4.08-4.31)"),
        ({"median": 448.2, "low": 448.2, "high": 448.2, "unit": "MB"}, "448 MB"),
        ({"median": 0.02, "low": 0.02, "high": 0.02, "unit": "ms"}, "0.02"),
        ({"median": -12.34, "low": -13.0, "high": -11.0, "unit": ""}, "-12.3 (-13--11)"),
        ("41 / 26 / 32", "41 / 26 / 32"),
        ([500.0, 499.5], "500, 500"),
    ],
)
def test_figures_as_people_read_them(bench: Any, cell: Any, expected: str) -> None:
    assert bench("results").text(cell) == expected


def test_a_ratio_fell_when_the_best_now_is_below_the_worst_kept(bench: Any) -> None:
    """By more than the margin of 5 %: of 4.0 to 5.0 that is below 3.8."""
    fell, spread = bench("check").fell, bench("report").Spread
    kept = spread.of([4.5, 4.0, 5.0])
    assert fell(spread.of([3.0, 3.5, 3.79]), kept)
    assert not fell(spread.of([3.0, 3.5, 3.81]), kept)
    assert not fell(spread.of([2.0, 2.0, 4.2]), kept)  # one as good as before: noise
    assert not fell(spread.of([6.0, 7.0, 8.0]), kept)
    assert fell(spread.of([3.9, 3.9, 3.9]), kept, margin=0.0)


def test_the_kept_ratios_of_the_check(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row finds one, whose spread is of pairs around 1 or above."""
    check = bench("check")
    for name, row in check.ROWS.items():
        found = check.kept(row)
        assert found.low <= found.median <= found.high, name
        assert found.high > 1, name


def test_a_check_that_finds_a_fall_fails(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    check, spread = bench("check"), bench("report").Spread
    monkeypatch.setattr(check, "measured", lambda row, *_: spread.of([0.1 if row.workload.name == "W3" else 99.0]))
    monkeypatch.setattr(sys, "argv", ["check.py", "--rows", "W1,W3"])
    with pytest.raises(SystemExit, match="Fell beyond noise: W3"):
        check.main()
    assert [line.rsplit(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()] == ["holds", "fell"]
    monkeypatch.setattr(sys, "argv", ["check.py", "--rows", "W1"])
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == 0
