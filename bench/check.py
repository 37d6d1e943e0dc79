"""Checks, before a release, that nothing became slower against others since the results that were kept.

    python bench/check.py                  # five minutes (`make bench-check`)
    python bench/check.py --rows W1,R1     # some of it
    python bench/check.py --repeats 2 --seconds 0.5   # whether it works

Measured are pairs of runs that follow one another (ours, the other's, ours, ...): W1, W1b and W3 beside
Stable-Baselines3, R1 beside sb3-contrib's RecurrentPPO, both with one thread, D1 beside rejax. A ratio is ours over the
other's in steps per second.

A ratio fell if **the greatest of the pairs now is below the least of the pairs kept, less a margin of 5 %**. If nothing
changed, all of n values come to lie below all of m others with a chance of n! m! / (n + m)!, one in 252 for five and
five, and so once in fifty checks of five rows even without the margin. The margin allows for what differs from day to
day on one machine. A fall that is smaller than the spread of the pairs is not found: for this, repeat more often on an
idle machine, or measure with the scripts themselves.

Ratios differ between machines: results of another one are told, and the check still holds their rule.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from programs import DEVICE_PEERS, OURS, OURS_ON_DEVICE, PEERS, RECURRENT_PEERS, Contender, Program, interpreter
from report import Spread, machine
from results import load
from workloads import DEVICE_WORKLOADS, RECURRENT_WORKLOADS, WORKLOADS, Workload

MARGIN = 0.05
REPEATS, SECONDS = 5, 2.0


class Row(NamedTuple):
    """A ratio to check: a workload, the two programs, and where the kept ratio is."""

    workload: Workload
    ours: Program
    peer: Program
    file: str
    table: str
    column: str


ROWS = {
    **{name: Row(WORKLOADS[name], OURS, PEERS["sb3"], "host", "peers", "ratio") for name in ("W1", "W1b", "W3")},
    "R1": Row(RECURRENT_WORKLOADS["R1"], OURS, RECURRENT_PEERS["contrib"], "recurrent", "peers", "ratio"),
    "D1": Row(DEVICE_WORKLOADS["D1"], OURS_ON_DEVICE, DEVICE_PEERS["rejax"], "device", "speed", "ratio"),
}


def main() -> None:
    options = parse(sys.argv[1:])
    fallen = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.rows:
            row, before = ROWS[name], kept(ROWS[name])
            now = measured(row, options, Path(folder) / "cache")
            verdict = "fell" if fell(now, before) else "holds"
            fallen += [name] if verdict == "fell" else []
            print(
                f"{row.workload.title}: {now.median:.2f} ({now.low:.2f}-{now.high:.2f}), kept {before.median:.2f} "
                f"({before.low:.2f}-{before.high:.2f}): {verdict}",
                flush=True,
            )
    sys.exit(f"Fell beyond noise: {', '.join(fallen)}." if fallen else 0)


def fell(now: Spread, before: Spread, margin: float = MARGIN) -> bool:
    """True if even the best pair now is below the worst kept, less the margin."""
    return now.high < before.low * (1 - margin)


def kept(row: Row) -> Spread:
    """The ratio that was kept; tells where it is of another machine.

    Raises:
        SystemExit: there is none.
    """
    results = load(row.file)
    table = results["tables"][row.table]
    found = next((of for title, of in table["rows"].items() if title.split()[0] == row.workload.name), None)
    if found is None:
        raise SystemExit(f"bench/results/{row.file}.json has no row {row.workload.name}.")
    about, cpu = results["sources"][found["source"]], machine()["cpu"]
    if cpu not in about["machine"]:
        print(f"{row.workload.name}: kept from another machine, {about['machine']}.", file=sys.stderr)
    return spread_of(found["cells"][table["columns"].index(row.column)])


def spread_of(cell: Mapping[str, Any]) -> Spread:
    return Spread(*(cell[name] for name in Spread._fields))


def measured(row: Row, options: argparse.Namespace, cache: Path) -> Spread:
    """The ratios of pairs of runs."""
    pair = [
        Contender(program, next(iter(program.variants)), interpreter(program, given))
        for program, given in ((row.ours, options.python), (row.peer, getattr(options, f"{row.peer.name}_python")))
    ]
    paired = []
    for seed in range(options.repeats):
        rates = [
            one.measure(
                "speed",
                cache=cache if one is pair[0] else None,
                workload=row.workload.to_json(),
                seconds=options.seconds,
                warmup=options.seconds / 4,
                seed=seed,
            )["steps_per_second"]
            for one in pair
        ]
        paired.append(rates[0] / rates[1])
    return Spread.of(paired)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS), help=",".join(ROWS))
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"pairs ({REPEATS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each run ({SECONDS:g})")
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter that has ppo2 (this one)")
    for name in {row.peer.name for row in ROWS.values()}:
        parser.add_argument(f"--{name}-python", type=Path, metavar="PATH", help=f"interpreter that has {name}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
