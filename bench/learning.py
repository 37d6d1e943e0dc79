"""Learning results: whole runs of the presets, several seeds each, and of Stable-Baselines3 with the same settings.

    python bench/learning.py runs/mujoco                                       # the seven of MuJoCo, 3 seeds: hours
    python bench/learning.py runs/mujoco --envs Hopper-v5 --libraries sb3      # the peer
    python bench/learning.py runs/pong --envs PongNoFrameskip-v4 --seeds 1 --timesteps 3000000 --episodes 10
    python bench/learning.py runs/mujoco --timesteps 20000 --seeds 1           # to see whether it works
    python bench/learning.py runs/mujoco --show                                # the table of what is there
    python bench/learning.py runs/mujoco --show --curves bench/results/mujoco.csv  # and keeps the curves (curves.py)

A run that is there already is not run again, so that a bench that was interrupted goes on. For every run two figures:
the mean return of its last 100 training episodes, which is what Baselines and CleanRL publish, and of 100 deterministic
episodes (`--episodes`) on environments that training never saw, with frozen statistics. Ours leave a run directory
each, for `ppo2 plot`.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

import curves
from programs import OURS, PEERS, Contender, interpreter
from report import TABLE_WIDTH
from results import on_screen, save, source
from tables import table

MUJOCO = (
    *("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5"),
    *("Swimmer-v5", "Reacher-v5"),
)
PUBLISHED = {
    "HalfCheetah-v5": ("1669", "2152 ± 1160 / 1823 ± 928", "1429 ± 62", "1443 ± 46"),
    "Hopper-v5": ("2316", "2519 ± 850 / 2231 ± 657", "2159 ± 302", "2383 ± 272"),
    "Walker2d-v5": ("3425", "3208 ± 1264 / 3050 ± 1136", "3356 ± 323", "2288 ± 572"),
    "InvertedPendulum-v5": ("809", "", "901 ± 36", "963 ± 22"),
    "InvertedDoublePendulum-v5": ("7103", "", "", ""),
    "Swimmer-v5": ("111", "", "", ""),
    "Reacher-v5": ("-6.7", "", "", ""),
}
"""Others' figures for the same tasks, as they published them, on the versions that they used."""

PUBLISHED_BY = (
    *("Baselines, final (6 seeds, v1)", '"37 details": Baselines / CleanRL (v2)', "openrlbenchmark, Baselines (v2)"),
    "CleanRL docs (v4)",
)
COLUMNS_HERE = ("last 100 training episodes: mean ± std (each seed)", "deterministic")
DAY = 86_400.0


def main() -> None:
    options = parse()
    console = Console(stderr=True, highlight=False)
    if not options.show:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for env in options.envs:
                for library in options.libraries:
                    result = run(options, library, env, seed)
                    console.print(f"{env}, {library}, seed {seed}: {result['last_100']:.1f}", style="dim")
    found = found_in(options.folder)
    Console(highlight=False, width=TABLE_WIDTH).print(on_screen("Learning", found))
    if options.json is not None:
        save(options.json, {"sources": {"": source(sys.argv, {})}, "tables": {"runs": found}})
    if options.curves is not None:
        curves.save(curves.of_folder(options.folder), options.curves)


def run(options: argparse.Namespace, library: str, env: str, seed: int) -> dict[str, Any]:
    """The result of one run, which is made in a process of its own unless it is there."""
    at = options.folder / env / f"{library}-{seed}.json"
    if not at.exists():
        at.parent.mkdir(parents=True, exist_ok=True)
        program = OURS if library == "ours" else PEERS[library]
        python = interpreter(program, options.sb3_python if library == "sb3" else None)
        result = Contender(program, next(iter(program.variants)), python).measure(
            "learning",
            timeout=DAY,
            env=env,
            seed=seed,
            timesteps=options.timesteps,
            episodes=options.episodes,
            run_dir=str(at.with_suffix("").absolute()),
        )
        at.write_text(json.dumps(result) + "\n")
    kept: dict[str, Any] = json.loads(at.read_text())
    return kept


def found_in(folder: Path) -> dict[str, Any]:
    """The table of the runs that are there, with others' figures beside them."""
    columns = (*COLUMNS_HERE, *(f"{peer.title} here" for peer in PEERS.values()), *PUBLISHED_BY)
    there = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    rows = []
    for env in sorted(there, key=lambda name: (MUJOCO.index(name) if name in MUJOCO else len(MUJOCO), name)):
        results = {
            library: [json.loads(path.read_text()) for path in sorted((folder / env).glob(f"{library}-*.json"))]
            for library in ("ours", *PEERS)
        }
        ours, *others = ([run["last_100"] for run in of] for of in results.values())
        deterministic = [run["deterministic"] for run in results["ours"]]
        cells = [_mean_of(ours), f"{statistics.mean(deterministic):,.4g}" if ours else "", *map(_mean_of, others)]
        rows.append((env, [*cells, *PUBLISHED.get(env, ("",) * len(PUBLISHED_BY))]))
    return table(columns, rows, "")


def _mean_of(seeds: list[float]) -> str:
    """Mean and spread (population), and each seed."""
    if len(seeds) < 2:
        return f"**{seeds[0]:,.4g}**" if seeds else ""
    each = ", ".join(f"{of:,.4g}" for of in seeds)
    return f"**{statistics.mean(seeds):,.4g}** ± {statistics.pstdev(seeds):,.4g} ({each})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where runs and results are kept")
    parser.add_argument("--envs", nargs="+", default=MUJOCO)
    parser.add_argument("--libraries", nargs="+", choices=("ours", *PEERS), default=["ours"])
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--timesteps", type=int, default=1_000_000)
    parser.add_argument("--episodes", type=int, default=100, help="of the deterministic evaluation")
    parser.add_argument("--sb3-python", type=Path, help="an interpreter that has it (made in bench/.venvs otherwise)")
    parser.add_argument("--show", action="store_true", help="only the table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, for bench/document.py")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="keep points of our curves there, as CSV")
    return parser.parse_args()


if __name__ == "__main__":
    main()
