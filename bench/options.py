"""The command line that the benchmarks have in common."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from programs import Program
from workloads import Workload


def common(
    parser: argparse.ArgumentParser, *, workloads: Mapping[str, Workload], peers: Mapping[str, Program], seconds: float
) -> None:
    """Adds what to measure, how long and how often, and with which interpreters."""
    parser.add_argument("--workloads", type=names(workloads), default=list(workloads), help=f"of {_list(workloads)}")
    parser.add_argument("--peers", type=names(peers), default=list(peers), help=f"of {_list(peers)}; '' for none")
    parser.add_argument("--repeats", type=int, default=5, help="of every measurement (5)")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"of each measurement of steps per second ({seconds:g})"
    )
    parser.add_argument("--quick", action="store_true", help="2 repeats of 2 seconds: whether it works, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for bench/document.py")
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter that has ppo2 (this one)")
    for name in peers:
        parser.add_argument(
            f"--{name}-python", type=Path, metavar="PATH", help=f"interpreter that has {name} (bench/.venvs/{name})"
        )


def parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats, options.seconds = 2, 2.0
    return options


def _list(known: Iterable[str]) -> str:
    return ",".join(known)


def names(known: Mapping[str, Any]) -> Any:
    def chosen_names(text: str) -> list[str]:
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is unknown; known are {_list(known)}")
        return chosen

    return chosen_names
