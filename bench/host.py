"""Speed on host environments, side by side with other libraries (A, B, A, B; each measurement a fresh process).

    python bench/host.py                                  # everything, about 20 minutes
    python bench/host.py --quick --workloads W1           # to see whether it works
    python bench/host.py --json results.json
    taskset --cpu-list 0,1 python bench/host.py           # on chosen cores; the processes started here inherit them

The measures: environment steps per second, rollout and update, over a window of `--seconds` that begins once
compilation and the first updates are over; the environment alone, with random actions; time from a process's start to
the end of its first update, without and with compiled programs on disk; time to import; peak memory. Ours runs as a
plain script, with `ppo2.configure_runtime()`, and under `PPO2_CONFIGURE=0`; a peer in the faster of its variants, found
by short trials.

Network and hyperparameters are the same for all (see `bench/workloads.py`). Ours meanwhile writes its log, its episodes
and a row every few updates, peers write nothing. Peers are installed in environments of their own, in `bench/.venvs`;
pip's own settings (such as PIP_INDEX_URL) choose where from. Nothing is pinned to cores unless you do so, and an idle
machine is up to you.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import tables
from options import common, parsed
from programs import OURS, PEERS, Contender, interpreter
from report import TABLE_WIDTH, Spread, machine, ratios, show, spread
from results import save, source
from workloads import STEPPED, WORKLOADS, Workload

TIE = 1.05  # trials that differ by less say nothing
STARTUP_UPDATES = 50  # of the run whose memory is looked at
TRIALS = 2

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    options = parse(sys.argv[1:])
    out, err = (Console(stderr=stderr, highlight=False) for stderr in (False, True))
    out.width = max(out.width, TABLE_WIDTH)
    ours = [Contender(OURS, variant, interpreter(OURS, options.python)) for variant in OURS.variants]
    peers = [
        [Contender(PEERS[name], variant, python) for variant in PEERS[name].variants]
        for name in options.peers
        for python in [interpreter(PEERS[name], getattr(options, f"{name}_python"))]
    ]
    results: dict[str, Any] = {
        "machine": machine(),
        "versions": {},
        "workloads": {},
        "stepping": [],
    }
    results["startup"] = {}

    def keep() -> None:
        if options.json is not None:
            about = source(sys.argv, results["versions"])
            save(options.json, {"sources": {"": about}, "tables": tables.host(results, ""), "runs": results})

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, err, Path(folder))
        for contender in (ours[0], *(variants[0] for variants in peers)):
            results["versions"][contender.program.title] = contender.measure("import")["versions"]  # warms the disk
        best = [variants[0] for variants in peers]
        for name in options.workloads:
            able = [variants for variants in peers if WORKLOADS[name].network in variants[0].program.networks]
            chosen = [bench.best_variant(WORKLOADS[name], variants) for variants in able]
            best = [contender for contender, _ in chosen]
            trials = {title: rate for _, rates in chosen for title, rate in rates.items()}
            results["workloads"][name] = {**bench.speed(WORKLOADS[name], ours, best), "trials": trials}
            keep()
        if options.stepping:
            results["stepping"] = bench.stepping(ours[0])
            keep()
        if options.startup:
            results["startup"] = bench.startup(WORKLOADS["W1"], ours, best)
            keep()
    show(out, results)


class Bench:
    """The measurements, with what they share: how long and how often, and where compiled programs are kept."""

    def __init__(self, options: argparse.Namespace, err: Console, folder: Path) -> None:
        self.seconds, self.repeats = options.seconds, options.repeats
        self.err, self.folder = err, folder

    def best_variant(self, workload: Workload, variants: Sequence[Contender]) -> tuple[Contender, dict[str, float]]:
        """The fastest and all rates, by short trials of each in turn. The first one wins a tie."""
        if len(variants) == 1:
            return variants[0], {}
        runs: Runs = {variant.title: [] for variant in variants}
        for _ in range(TRIALS):
            for variant in variants:
                runs[variant.title].append(self._rate(workload, variant, self.seconds / 2, seed=0))
        rates = {title: spread(of, "steps_per_second").median for title, of in runs.items()}
        self._tell(f"{workload.name} trials: " + ", ".join(f"{title} {rate:,.0f}" for title, rate in rates.items()))
        fastest = max(variants, key=lambda variant: rates[variant.title])
        # PyTorch's default threads collapse when something else runs too: not for a gain that may be chance.
        tie = rates[fastest.title] < TIE * rates[variants[0].title]
        return variants[0] if tie else fastest, rates

    def speed(self, workload: Workload, ours: Sequence[Contender], peers: Sequence[Contender]) -> dict[str, Any]:
        """Steps per second of everyone in turn, again and again."""
        contenders = [*ours, *peers]
        runs: Runs = {contender.title: [] for contender in contenders}
        alone: list[dict[str, Any]] = []
        for repeat in range(self.repeats):
            for contender in contenders:
                runs[contender.title].append(self._rate(workload, contender, self.seconds, seed=repeat))
            alone.append(
                ours[0].measure("ceiling", workload=workload.to_json(), seconds=min(2.0, self.seconds), seed=repeat)
            )
            self._tell(
                f"{workload.name} {repeat + 1}/{self.repeats}: "
                + ", ".join(f"{title} {of[-1]['steps_per_second']:,.0f}" for title, of in runs.items())
            )
        first = [run["steps_per_second"] for run in runs[ours[0].title]]
        summary: dict[str, Any] = {}
        for contender in contenders:
            rates = [run["steps_per_second"] for run in runs[contender.title]]
            row: dict[str, Any] = {"steps_per_second": Spread.of(rates)._asdict()}
            if contender is not ours[0]:
                row["ratio"] = ratios(first, rates)
            shares = [run["shares"] for run in runs[contender.title] if run.get("shares")]
            if shares:
                row["shares"] = {name: spread(shares, name).median for name in ("step", "act", "train")}
            summary[contender.title] = row
        return {
            "title": workload.title,
            "workload": workload.to_json(),
            "contenders": summary,
            "environment_alone": {"steps_per_second": spread(alone, "steps_per_second")._asdict()},
            "runs": {**runs, "environment alone": alone},
        }

    def stepping(self, ours: Contender) -> list[dict[str, Any]]:
        """Environments alone: ours beside Gymnasium's, slice by slice in one process."""
        table = []
        for env, num_envs in STEPPED:
            result = ours.measure(
                "stepping",
                env=env,
                num_envs=num_envs,
                seed=0,
                workers=max(1, (os.cpu_count() or 2) - 1),
                rounds=6 * self.repeats,
                seconds=self.seconds / 24,
                asynchronous=env == "CartPole-v1",
            )
            rows = result["rows"]
            by_name = {name: [row[name] for row in rows] for name in rows[0]}
            row: dict[str, Any] = {"env": env, "num_envs": num_envs, "chosen": result["chosen"], "engines": {}}
            for name, rates in by_name.items():
                row["engines"][name] = {"steps_per_second": Spread.of(rates)._asdict()}
                for other in ("sync", "async"):
                    if other in by_name and name not in (other, "sync"):
                        row["engines"][name][f"to_{other}"] = ratios(rates, by_name[other])
            table.append({**row, "rows": rows})
            self._tell(
                f"{num_envs} x {env}: " + ", ".join(f"{name} {rates[-1]:,.0f}" for name, rates in by_name.items())
            )
        return table

    def startup(self, workload: Workload, ours: Sequence[Contender], peers: Sequence[Contender]) -> dict[str, Any]:
        """From the process's start to the end of the first update, peak memory, and time to import."""
        plain, *_, left_alone = ours
        cold, warm = f"{plain.title}, cold", f"{plain.title}, compiled before"
        runs: Runs = {title: [] for title in (cold, warm, left_alone.title, *(peer.title for peer in peers))}
        imports: Runs = {title: [] for title in (cold, *(peer.title for peer in peers))}
        for contender in (plain, *peers):  # Python keeps the bytecode of all that is imported
            contender.measure("startup", workload=workload.to_json(), updates=1, seed=0)
        for repeat in range(self.repeats):
            job: dict[str, Any] = {"workload": workload.to_json(), "updates": STARTUP_UPDATES, "seed": repeat}
            cache = self.folder / f"cold-{repeat}"
            runs[cold].append(plain.measure("startup", cache=cache, **job))
            # the seed is data: what was compiled with it serves for every other
            runs[warm].append(plain.measure("startup", cache=cache, **job))
            runs[left_alone.title].append(left_alone.measure("startup", **job))
            imports[cold].append(plain.measure("import"))
            for peer in peers:
                runs[peer.title].append(peer.measure("startup", **job))
                imports[peer.title].append(peer.measure("import"))
            self._tell(
                f"start {repeat + 1}/{self.repeats}: "
                + ", ".join(f"{title} {of[-1]['seconds']:.2f} s" for title, of in runs.items())
            )
        rows: dict[str, Any] = {}
        for title, of in runs.items():
            rows[title] = {name: spread(of, name)._asdict() for name in ("seconds", "peak_mb")}
            if title in imports:
                rows[title]["import_seconds"] = spread(imports[title], "seconds")._asdict()
        return {"workload": workload.title, "contenders": rows, "runs": runs, "imports": imports}

    def _tell(self, text: str) -> None:
        self.err.print(text, style="dim", soft_wrap=True)

    def _rate(self, workload: Workload, contender: Contender, seconds: float, seed: int) -> dict[str, Any]:
        configured = contender.program is OURS and OURS.variants[contender.variant]["configure_runtime"] is not False
        return contender.measure(
            "speed",
            cache=self.folder / "cache" if configured else None,  # not the user's own
            workload=workload.to_json(),
            seconds=seconds,
            warmup=seconds / 4,
            seed=seed,
        )


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser, workloads=WORKLOADS, peers=PEERS, seconds=8.0)
    parser.add_argument("--no-stepping", dest="stepping", action="store_false", help="not environments alone")
    parser.add_argument("--no-startup", dest="startup", action="store_false", help="only steps per second")
    return parsed(parser, arguments)


if __name__ == "__main__":
    main()
