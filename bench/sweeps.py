"""Time of a sweep over seeds on host environments, beside that of one of its runs alone.

    python bench/sweeps.py                                # two minutes
    python bench/sweeps.py --env CartPole-v1 --timesteps 500000 --seeds 4
    python bench/sweeps.py --json sweeps.json
    taskset --cpu-list 0,1 python bench/sweeps.py         # on chosen cores; the processes started here inherit them

Turn by turn, each in a fresh process: `ppo2.learn` of one seed, `ppo2.sweep` of `--seeds` seeds with `parallel="auto"`,
and with `--in-turn` the same one after another. All use the environment's preset and write nothing. Seconds are of the
whole process, from its start to its end, with compiled programs on the disk unless `--cold`. The parameters that came
out are compared, bit by bit.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import tables
from programs import OURS, OURS_IN_SWEEPS, Contender, interpreter
from report import Spread, machine, ratios, spread
from results import save, source

ONE, SWEEP, IN_TURN = "one run alone", "sweep", "sweep, one after another"

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    options = parse(sys.argv[1:])
    out, err = (Console(stderr=stderr, highlight=False) for stderr in (False, True))
    ours = Contender(OURS_IN_SWEEPS, "plain", interpreter(OURS_IN_SWEEPS, options.python))
    runs: Runs = {name: [] for name in (ONE, SWEEP, *([IN_TURN] if options.in_turn else []))}
    with tempfile.TemporaryDirectory() as folder:
        job: dict[str, Any] = {"env": options.env, "timesteps": options.timesteps}
        cache = Path(folder) / "cache"
        if not options.cold:
            ours.measure("whole", cache=cache, seeds=1, parallel=None, **job)  # compiles, and warms the disk
        parallel = {ONE: None, SWEEP: "auto", IN_TURN: 1}
        for repeat in range(options.repeats):
            for name, of in runs.items():
                own = Path(folder) / f"{repeat}-{name}" if options.cold else cache
                seeds = 1 if name == ONE else options.seeds
                of.append(ours.measure("whole", cache=own, seeds=seeds, parallel=parallel[name], **job))
            latest = ", ".join(f"{name} {of[-1]['seconds']:.2f} s" for name, of in runs.items())
            err.print(f"{repeat + 1}/{options.repeats}: {latest}", style="dim", soft_wrap=True)
    results = {"machine": machine(), "sweep": summary(options, runs), "runs": runs}
    if options.json is not None:
        versions = Contender(OURS, "plain", interpreter(OURS, options.python)).measure("import")["versions"]
        about = source(sys.argv, {OURS.title: versions})
        save(options.json, {"sources": {"": about}, "tables": tables.sweeps(results, ""), "runs": results})
    show(out, results)


def summary(options: argparse.Namespace, runs: Runs) -> dict[str, Any]:
    """Medians and spreads, the ratios to one run alone, and whether the parameters are the same."""
    alone = [run["seconds"] for run in runs[ONE]]
    rows: dict[str, Any] = {}
    for name, of in runs.items():
        rows[name] = {"seconds": spread(of, "seconds")._asdict()}
        if name != ONE:
            rows[name]["ratio"] = ratios([run["seconds"] for run in of], alone)
    first = {tuple(run["parameters"][:1]) for of in runs.values() for run in of}
    whole = {tuple(run["parameters"]) for name, of in runs.items() if name != ONE for run in of}
    return {
        "env": options.env,
        "timesteps": options.timesteps,
        "seeds": options.seeds,
        "cold": options.cold,
        "same_bits": len(first) == len(whole) == 1,
        "contenders": rows,
    }


def show(console: Console, results: dict[str, Any]) -> None:
    """The summary as a table."""
    found = results["sweep"]
    compiled = "nothing compiled before" if found["cold"] else "compiled before"
    table = Table(title=f"{found['env']}, {found['timesteps']:,} timesteps a run, {compiled}", title_justify="left")
    for name in ("", "seconds", "times one run alone (paired)"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in found["contenders"].items():
        title = name if name == ONE else f"{name} of {found['seeds']} seeds"
        ratio = "" if name == ONE else _shown(Spread(**row["ratio"]["paired"]), ".2f")
        table.add_row(title, _shown(Spread(**row["seconds"]), ".1f"), ratio)
    console.print(table, f"{results['machine']['cpu']}; {'the same' if found['same_bits'] else 'OTHER'} bits")


def _shown(figure: Spread, spec: str) -> str:
    return f"{figure.median:{spec}} ({figure.low:{spec}}-{figure.high:{spec}})"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5", help="environment id (HalfCheetah-v5)")
    parser.add_argument("--timesteps", type=int, default=122_880, help="of each run (122,880)")
    parser.add_argument("--seeds", type=int, default=2, help="of a sweep (2)")
    parser.add_argument("--repeats", type=int, default=3, help="of every measurement (3)")
    parser.add_argument("--in-turn", action="store_true", help="sweep one after another too")
    parser.add_argument("--cold", action="store_true", help="with nothing compiled before")
    parser.add_argument("--quick", action="store_true", help="2 repeats, few timesteps: whether it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, for bench/document.py")
    parser.add_argument("--python", type=Path, metavar="PATH", help="interpreter that has ppo2 (this one)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats, options.timesteps = 2, 8192
    return options


if __name__ == "__main__":
    main()
