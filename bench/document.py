"""Writes the tables of docs/benchmarks.md, docs/scaling.md and README.md from the kept results: no figure is typed.
Their pictures, too: docs/images/speed.png (headline.py) and mujoco.png (curves.py).

    python bench/document.py                      # the tables anew, from bench/results (`make bench-docs`)
    python bench/document.py host.json ...        # keeps new results first: what a script wrote by --json host.json

A table stands between two marks, and whatever was there is replaced; the prose around them is written by hand:

    <!-- table: host speed -->
    <!-- end -->

The mark names a file of bench/results and one of its tables. New results replace rows of the same title; other rows of
the same table stay, with the date and the machine of their own measurement.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import curves
import headline
from results import FOLDER, Results, load, markdown, merged, save

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "scaling.md", ROOT / "docs" / "recurrent-robotics.md"]
PAGES += [ROOT / "README.md", ROOT / "README.zh-CN.md"]
MARKED = re.compile(r"<!-- table: (?P<file>\S+) (?P<table>[^>]+?) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        keep(path)
    for page in PAGES:
        page.write_text(written(page.read_text()))
    headline.drawn(headline.comparisons(load))
    curves.drawn(curves.load())


def keep(path: Path) -> None:
    """Takes a script's results into the kept ones, without its single runs."""
    new = json.loads(path.read_text())
    kept = load(path.stem) if (FOLDER / path.name).exists() else {}
    save(FOLDER / path.name, merged(kept, new))


def written(page: str, results: Callable[[str], Results] = load) -> str:
    """The page with its tables as the results have them.

    Raises:
        ValueError: a mark that names no table.
    """

    def table(mark: re.Match[str]) -> str:
        try:
            lines = markdown(results(mark["file"]), mark["table"])
        except (OSError, KeyError):
            raise ValueError(f"{mark[0].splitlines()[0]} names no table of {FOLDER}.") from None
        return "\n".join([f"<!-- table: {mark['file']} {mark['table']} -->", *lines, "", "<!-- end -->"])

    return headline.written(MARKED.sub(table, page), results)


if __name__ == "__main__":
    main()
