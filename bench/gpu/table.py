"""The table of docs/benchmarks.md, "On a GPU": ours and others on this machine's card, in one call.

    python bench/gpu/table.py --budget 330                      # the most important parts first, as far as time goes
    python bench/gpu/table.py --budget 600 --parts images,latency,sweep,precision,tests
    python bench/gpu/table.py --small                           # whether it works, on a CPU

Printed are the results, a line of JSON each (kept in results.jsonl), then the table in Markdown, with the card's name,
and what is missing in it. A figure is the median of the repeats, with the least and the greatest; a ratio is that of
the medians, with the range of those of consecutive measurements, and above 1 ours is ahead.

Every measured program is a process of its own. Those that are compared start together and compile one after another,
then are measured in turn (A, B, A, B) while the others wait. Ours goes through `ppo2.learn` with a run directory and
writes its log and its episodes all the while; others write nothing.

All of it is run by this Python, which must have what is compared: JAX for the card, rejax, Brax, Stable-Baselines3 with
PyTorch, ale-py; bench/README.md, "On a GPU", says how to bring them to a machine without a network.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import looks
import parts
from turns import Bench, Fact, Row

import tables
from options import names
from report import Spread, machine
from results import save, source


class Part(NamedTuple):
    """A part of the table.

    Attributes:
        measure: gives its lines as they are found.
        limit: seconds that it may take.
        least: seconds without which it isn't begun.
    """

    measure: Callable[[Bench], Iterator[Row | Fact]]
    limit: float
    least: float


PARTS: dict[str, Part] = {
    "device": Part(parts.device, 130, 40),
    "ant": Part(parts.ant, 150, 80),
    "host": Part(parts.host, 60, 20),
    "breakout": Part(parts.breakout, 75, 35),
    "bits": Part(looks.bits, 60, 15),
    "images": Part(looks.images, 60, 15),
    "latency": Part(looks.latency, 40, 10),
    "sweep": Part(looks.sweep, 60, 15),
    "precision": Part(looks.precision, 100, 20),
    "tests": Part(looks.tests, 300, 60),
}
"""The parts, the most important first."""

SMALL_LIMIT = 900.0


def main() -> None:
    options = parse(sys.argv[1:])
    began = time.monotonic()
    out = Path(options.out or os.environ.get("OUT") or tempfile.mkdtemp())
    seconds = options.seconds or (0.5 if options.small else 2.0)
    bench = Bench(Path(sys.executable), options.small, options.repeats, seconds, out)
    found: dict[str, list[Row | Fact]] = {}
    missing: dict[str, str] = {}
    for name in options.parts:
        part, left = PARTS[name], options.budget - (time.monotonic() - began)
        if left < part.least and not options.small:
            missing[name] = f"not begun: {left:.0f} s were left, it takes {part.least:.0f} at least"
            continue
        bench.part, limit = name, SMALL_LIMIT if options.small else min(part.limit, left)
        bench.deadline = time.monotonic() + limit
        try:
            for line in part.measure(bench):
                found.setdefault(name, []).append(line)
        except Exception as error:  # the other parts are wanted all the same
            last = str(error).strip().splitlines() or [type(error).__name__]
            missing[name] = f"{type(error).__name__}: {last[-1][:300]}"
            (out / "errors.txt").open("a").write(f"{name}\n{traceback.format_exc()}\n")
        bench.tell(seconds_so_far=round(time.monotonic() - began, 1), missing=missing.get(name))
    text = "\n".join(markdown(found, missing, card(), machine()))
    (out / "table.md").write_text(text + "\n")
    if options.json is not None:
        compared = [line for lines in found.values() for line in lines if isinstance(line, Row)]
        about = {
            **source(sys.argv, {}),
            "machine": f"{card()}, {machine()['usable_cores']} processors ({machine()['cpu']})",
        }
        about |= {"command": about["command"].replace("bench/", "bench/gpu/"), "versions": _versions()}
        save(options.json, {"sources": {"": about}, "tables": tables.gpu(compared, "")})
    print(f"\n{text}")


def card() -> str:
    """The card's name and driver."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "no card"
    name, _, driver = done.stdout.strip().splitlines()[0].partition(", ")
    return f"{name} (driver {driver})"


def markdown(
    found: Mapping[str, Sequence[Row | Fact]], missing: Mapping[str, str], device: str, about: Mapping[str, object]
) -> Iterator[str]:
    """The lines of the table, of what was looked at besides, and of what is missing."""
    yield f"{device}, {about['usable_cores']} processors ({about['cpu']}), Python {about['python']}, {_versions()}."
    yield ""
    yield "| work | ppo2 | other | ratio | target |"
    yield "|---|---|---|---|---|"
    lines = [line for of in found.values() for line in of]
    for row in (line for line in lines if isinstance(line, Row)):
        more = f" ({row.more})" if row.more else ""
        cells = f"{_figure(row.ours, row.unit)} | {row.other} {_figure(row.theirs, row.unit)}"
        yield f"| {row.work}{more} | {cells} | {_ratio(row)} |"
    facts = [line for line in lines if isinstance(line, Fact)]
    if facts:
        yield from ("", "| looked at | found |", "|---|---|")
        yield from (f"| {fact.what} | {fact.found} |" for fact in facts)
    if missing:
        yield ""
        yield from (f"- Missing, {name}: {why}" for name, why in missing.items())


def _ratio(row: Row) -> str:
    """Cells of the ratio, and of the target and whether it was met."""
    found = row.ratio
    if found is None:
        return " | "
    ratio, pairs = found
    spread = f" ({pairs.low:.2f} to {pairs.high:.2f})" if len(row.ours) > 1 else ""
    target = "" if row.target is None else f"{row.target:g}: {'met' if ratio >= row.target else 'missed'}"
    return f"**{ratio:.2f}**{spread} | {target}"


def _figure(values: Sequence[float], unit: str) -> str:
    """12.3 M (12.0 to 12.4) steps/s."""
    if not values:
        return "wasn't measured"
    spread = Spread.of(values)
    scale, letter = next(
        (found for found in ((1e6, " M"), (1e3, " k")) if spread.median >= found[0] and unit != "s"), (1.0, "")
    )
    median, low, high = (f"{value / scale:.3g}" for value in spread)
    between = f" ({low} to {high})" if len(values) > 1 else ""
    return f"{median}{letter}{between} {unit}"


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "absent"

    packages = {"jax": "JAX", "rejax": "rejax", "brax": "Brax", "torch": "PyTorch", "stable-baselines3": "SB3"}
    return ", ".join(f"{title} {of(name)}" for name, title in packages.items())


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=names(PARTS), default=list(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--budget", type=float, default=900.0, help="seconds in all (900)")
    parser.add_argument("--repeats", type=int, default=3, help="of every comparison (3)")
    parser.add_argument("--seconds", type=float, help="of each measurement of steps per second (2)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for results.jsonl and table.md ($OUT)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what compares there, for bench/document.py")
    parser.add_argument("--small", action="store_true", help="tiny sizes: whether it works, not how fast")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
