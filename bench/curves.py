"""The picture of learning curves in docs/benchmarks.md, from kept points of the curves.

`python bench/learning.py FOLDER --curves bench/results/mujoco.csv` keeps the points of the runs in a folder, and
`python bench/document.py` draws them. A line of the file is a point: environment, seed, timesteps, and the mean return
of the last 100 episodes.
"""

import csv
import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

KEPT = Path(__file__).parent / "results" / "mujoco.csv"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "mujoco.png"
NAME = "points"
"""The entry of the picture's metadata that identifies the points it was drawn from."""
POINTS = 100
COLUMNS = 4
WINDOW = 100

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
Curves = dict[str, dict[int, Curve]]


def of_folder(folder: Path) -> Curves:
    """Curves of our runs in a folder of `bench/learning.py`, by environment and seed."""
    from ppo2.plot.series import rolling_mean
    from ppo2.reporting import run_curve

    found: Curves = {}
    for result in sorted(folder.glob("*/ours-*.json")):
        run = run_curve.read_run(result.with_suffix(""))
        returns = rolling_mean(run.returns, WINDOW)
        at = np.linspace(run.timesteps[0], run.timesteps[-1], POINTS)
        seed = int(result.stem.rpartition("-")[2])
        found.setdefault(result.parent.name, {})[seed] = (at, np.interp(at, run.timesteps, returns))
    return found


def save(curves: Curves, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["env", "seed", "timesteps", "return"])
        for env, seeds in curves.items():
            for seed, points in seeds.items():
                lines.writerows([env, seed, f"{at:.0f}", f"{value:.5g}"] for at, value in zip(*points, strict=True))


def load(path: Path = KEPT) -> Curves:
    points: dict[str, dict[int, list[tuple[float, float]]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            of = points.setdefault(row["env"], {}).setdefault(int(row["seed"]), [])
            of.append((float(row["timesteps"]), float(row["return"])))
    return {
        env: {seed: (np.array(of)[:, 0], np.array(of)[:, 1]) for seed, of in seeds.items()}
        for env, seeds in points.items()
    }


def identity(curves: Curves) -> str:
    """A text that is the same for the same points."""
    points = {env: {seed: [of.tolist() for of in curve] for seed, curve in of.items()} for env, of in curves.items()}
    return hashlib.sha256(repr(points).encode()).hexdigest()


def drawn(curves: Curves, path: Path = PICTURE) -> None:
    """Draws a panel an environment: every seed's curve, and the mean; unless the picture is of these points already."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter
    from PIL import Image

    from ppo2.plot.drawing import COLORS

    if path.exists():
        with Image.open(path) as before:
            if before.info.get(NAME) == identity(curves):
                return
    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 2.4 * rows), layout="constrained", dpi=160)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat[len(curves) :]:
        axes.axis("off")
    for axes, (env, seeds) in zip(grid.flat, curves.items(), strict=False):
        for timesteps, returns in seeds.values():
            axes.plot(timesteps, returns, color=COLORS[0], alpha=0.35, linewidth=0.8)
        common = np.linspace(max(x[0] for x, _ in seeds.values()), min(x[-1] for x, _ in seeds.values()), POINTS)
        mean = np.mean([np.interp(common, x, y) for x, y in seeds.values()], axis=0)
        axes.plot(common, mean, color=COLORS[0], linewidth=1.8)
        axes.set_title(f"{env} ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("timesteps", fontsize=9)
    figure.supylabel(f"mean return of the last {WINDOW} episodes", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={NAME: identity(curves)})
