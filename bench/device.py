"""Speed on device environments (gymnax's CartPole), side by side with rejax (A, B, A, B; each measurement a fresh
process).

    python bench/device.py                                # everything, about 40 minutes
    python bench/device.py --quick                        # to see whether it works
    python bench/device.py --no-sweep --no-scaling --json results.json

The measures: environment steps per second, rollout and update, over a window of `--seconds` that begins once
compilation and the first updates are over; the time of compiling, nothing kept on disk; steps per second of a sweep
over 16 seeds in all, against one run (on D1); and the time of a step by the number of environments.

Ours runs as `ppo2.configure_runtime()` sets JAX up, with an in-process CPU device for each core, and with one device.
It goes through `ppo2.learn` with a run directory: it writes its episodes, and a row every few updates, whose times are
the measure. rejax is `jax.jit(PPO.train)` without its evaluations, called for as many updates as lie between two of our
rows; it writes nothing and reports no episodes. Compiling lasts, for ours, from the call of `learn` to the first row
of its log, less what its updates take later on; for rejax, from making the algorithm to the compiled program.

Network and hyperparameters are the same (see `bench/workloads.py`), and so is the work of an update, but where ours
does more: rejax always clips the value, by the policy's clip range, so here ours clips it by the same; the gradient is
clipped by its norm, rejax's element by element; ours values the last observation of an episode cut short, finds faults
(NaN) and keeps the statistics of its log. rejax is installed in an environment of its own, in `bench/.venvs`. Nothing
is pinned to cores, and an idle machine is up to you.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

import tables
from options import common, parsed
from programs import DEVICE_PEERS, OURS_ON_DEVICE, Contender, interpreter
from report import TABLE_WIDTH, machine, ratios, show_device, spread
from results import save, source
from workloads import DEVICE_WORKLOADS, Workload, on_device

SEEDS = 16  # of the sweep
SIZES = (64, 256, 1024, 4096, 16384)
QUICK_SIZES = SIZES[:2]

Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    options = parse(sys.argv[1:])
    out, err = (Console(stderr=stderr, highlight=False) for stderr in (False, True))
    out.width = max(out.width, TABLE_WIDTH)
    python = interpreter(OURS_ON_DEVICE, options.python)
    ours = [Contender(OURS_ON_DEVICE, variant, python) for variant in OURS_ON_DEVICE.variants]
    peers = [
        Contender(DEVICE_PEERS[name], variant, python)
        for name in options.peers
        for python in [interpreter(DEVICE_PEERS[name], getattr(options, f"{name}_python"))]
        for variant in DEVICE_PEERS[name].variants
    ]
    results: dict[str, Any] = {"machine": machine(), "versions": {}, "workloads": {}}

    def keep() -> None:
        if options.json is not None:
            about = source(sys.argv, results["versions"])
            save(options.json, {"sources": {"": about}, "tables": tables.device(results, ""), "runs": results})

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, err, Path(folder))
        for contender in (ours[0], *peers):
            results["versions"][contender.program.title] = contender.measure("import")["versions"]  # warms the disk
        for name in options.workloads:
            results["workloads"][name] = bench.speed(DEVICE_WORKLOADS[name], ours, peers)
            keep()
        if options.sweep:
            results["sweep"] = bench.sweep(DEVICE_WORKLOADS["D1"], ours)
            keep()
        if options.scaling:
            results["scaling"] = bench.scaling(ours, QUICK_SIZES if options.quick else SIZES)
            keep()
    show_device(out, results)


class Bench:
    """The measurements, with what they share: how long and how often, and where compiled programs are kept."""

    def __init__(self, options: argparse.Namespace, err: Console, folder: Path) -> None:
        self.seconds, self.repeats = options.seconds, options.repeats
        self.err, self.folder = err, folder
        self.caches = 0

    def speed(self, workload: Workload, ours: Sequence[Contender], peers: Sequence[Contender]) -> dict[str, Any]:
        """Steps per second and seconds of compiling, of everyone in turn, again and again."""
        contenders = [*ours, *peers]
        runs: Runs = {contender.title: [] for contender in contenders}
        for repeat in range(self.repeats):
            for contender in contenders:
                runs[contender.title].append(self._rate(workload, contender, repeat, cache=self._empty_cache()))
            self._tell(f"{workload.name} {repeat + 1}/{self.repeats}", _latest(runs))
        summary: dict[str, Any] = {
            title: _summary(of, "steps_per_second", "compile_seconds") for title, of in runs.items()
        }
        for contender in ours:
            row = summary[contender.title]
            row["ratios"] = {peer.title: _ratios(runs, contender.title, peer.title) for peer in peers}
        return {"title": workload.title, "workload": workload.to_json(), "contenders": summary, "runs": runs}

    def sweep(self, workload: Workload, ours: Sequence[Contender]) -> dict[str, Any]:
        """Steps per second of one run and of a sweep's runs together, in turn."""
        sweeps: Runs = {contender.title: [] for contender in ours}
        singles: Runs = {contender.title: [] for contender in ours}
        cache = self._empty_cache()
        for repeat in range(self.repeats):
            for contender in ours:
                singles[contender.title].append(self._rate(workload, contender, repeat, cache=cache))
                sweeps[contender.title].append(
                    contender.measure(
                        "sweep", cache=cache, workload=workload.to_json(), runs=SEEDS, seconds=self.seconds
                    )
                )
            self._tell(f"sweep {repeat + 1}/{self.repeats}", _latest(sweeps))
        summary = {
            title: {
                "single": _summary(singles[title], "steps_per_second"),
                "sweep": _summary(sweeps[title], "steps_per_second"),
                "ratio": ratios(_rates(sweeps[title]), _rates(singles[title])),
            }
            for title in sweeps
        }
        return {
            "title": f"Sweep over {SEEDS} seeds ({workload.title})",
            "contenders": summary,
            "runs": {"sweeps": sweeps, "singles": singles},
        }

    def scaling(self, ours: Sequence[Contender], sizes: Sequence[int]) -> dict[str, Any]:
        """Nanoseconds per environment step by the number of environments."""
        workloads = [on_device(f"{size} environments", size) for size in sizes]
        runs: dict[str, Runs] = {contender.title: {} for contender in ours}
        cache = self._empty_cache()
        for repeat in range(self.repeats):
            for workload in workloads:
                for contender in ours:
                    run = self._rate(workload, contender, repeat, cache=cache)
                    run["nanoseconds"] = 1e9 / run["steps_per_second"]
                    runs[contender.title].setdefault(str(workload.num_envs), []).append(run)
                now = {title: by_size[str(workload.num_envs)] for title, by_size in runs.items()}
                self._tell(f"{workload.name} {repeat + 1}/{self.repeats}", _latest(now))
        summary: dict[str, Any] = {}
        for title, by_size in runs.items():
            costs = {size: _summary(of, "nanoseconds") for size, of in by_size.items()}
            medians = [cost["nanoseconds"]["median"] for cost in costs.values()]
            summary[title] = {"sizes": costs, "most_over_least": max(medians) / min(medians)}
        return {
            "title": f"Cost per environment step ({workloads[0].env}, n x {workloads[0].nsteps}, "
            f"{workloads[0].noptepochs} epochs, {workloads[0].nminibatches} minibatches)",
            "contenders": summary,
            "runs": runs,
        }

    def _tell(self, what: str, rates: Mapping[str, float]) -> None:
        text = f"{what}: " + ", ".join(f"{title} {rate:,.0f}" for title, rate in rates.items())
        self.err.print(text, style="dim", soft_wrap=True)

    def _empty_cache(self) -> Path:
        self.caches += 1
        return self.folder / f"cache-{self.caches}"

    def _rate(self, workload: Workload, contender: Contender, seed: int, *, cache: Path) -> dict[str, Any]:
        return contender.measure(
            "speed",
            cache=cache if contender.program is OURS_ON_DEVICE else None,
            workload=workload.to_json(),
            seconds=self.seconds,
            warmup=self.seconds / 4,
            seed=seed,
        )


def _summary(runs: Sequence[Mapping[str, Any]], *names: str) -> dict[str, Any]:
    return {"devices": runs[0]["devices"], **{name: spread(runs, name)._asdict() for name in names}}


def _latest(runs: Runs) -> dict[str, float]:
    return {title: of[-1]["steps_per_second"] for title, of in runs.items()}


def _rates(runs: Sequence[Mapping[str, Any]]) -> list[float]:
    return [run["steps_per_second"] for run in runs]


def _ratios(runs: Runs, ours: str, theirs: str) -> dict[str, Any]:
    return ratios(_rates(runs[ours]), _rates(runs[theirs]))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser, workloads=DEVICE_WORKLOADS, peers=DEVICE_PEERS, seconds=8.0)
    parser.add_argument("--no-sweep", dest="sweep", action="store_false", help=f"no sweep over {SEEDS} seeds")
    parser.add_argument("--no-scaling", dest="scaling", action="store_false", help="no cost by number of environments")
    return parsed(parser, arguments)


if __name__ == "__main__":
    main()
