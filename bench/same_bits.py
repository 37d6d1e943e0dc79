"""Same seed, same bits: trains small runs with two source trees and compares what they leave, bit for bit.

    git worktree add /tmp/before HEAD~1
    python bench/same_bits.py /tmp/before/src src          # every run, about 5 minutes on two cores
    python bench/same_bits.py /tmp/before/src src --only cartpole,lstm

Compared are every array of the final checkpoint (parameters, optimiser, normaliser, key, environments), the rows of
progress.csv but for times and speed, and the episodes of monitor.csv but for their times. `resumed` begins with the
first tree and is resumed with the second; it must end as the first tree's unbroken run does.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TIMES = {"fps", "misc/time_elapsed", "time/step", "time/act", "time/train", "t"}
"""Columns that differ from run to run."""

SMALL: dict[str, Any] = {"nsteps": 64, "nminibatches": 4, "noptepochs": 3, "log_interval": 2, "seed": 3}
RUNS: dict[str, dict[str, Any]] = {
    "cartpole": {"env": "CartPole-v1", "num_envs": 8, "lr": "linear:1e-3", "ent_coef": 0.01},
    "groups": {"env": "CartPole-v1", "num_envs": 8, "make": {"workers": 1}},
    "cheetah": {
        "env": "HalfCheetah-v5", "num_envs": 4, "normalize_obs": True, "normalize_rewards": True,
        "value_network": "copy", "save_interval": 5,
    },
    "squashed": {"env": "Pendulum-v1", "num_envs": 4, "action_dist": "squashed_gaussian", "max_grad_norm": None},
    "lstm": {"env": "CartPole-v1", "network": "lstm", "num_envs": 8, "nlstm": 32},
    "device": {"env": "gymnax:CartPole-v1", "num_envs": 16, "normalize_obs": True, "normalize_rewards": True},
    "device_lstm": {"env": "gymnax:CartPole-v1", "network": "gru", "num_envs": 8, "target_kl": 0.02},
    "clips": {
        "env": "Acrobot-v1", "num_envs": 8, "value_cliprange": None, "target_kl": 0.01, "bootstrap_truncated": False,
        "total_timesteps": 8192,
    },
    "taxi": {"env": "Taxi-v4", "num_envs": 8, "cliprange": "linear:0.2", "value_cliprange": 0.3, "nsteps": 256},
    "evaluated": {"env": "CartPole-v1", "num_envs": 8, "eval_env": "CartPole-v1", "eval_interval": 3, "keep": 2},
    "minigrid": {
        "env": "MiniGrid-Empty-5x5-v0", "num_envs": 4, "encoders": {"image": "mlp"},
        "total_timesteps": 1024,
    },
}  # fmt: skip
RESUMED = ("cartpole", "cheetah", "lstm", "device", "taxi")
SWEPT: dict[str, Any] = {
    "env": "gymnax:CartPole-v1", "num_envs": 8, "seed": range(2), "lr": [1e-3, 3e-4], "nsteps": 64,
    "total_timesteps": 2048,
}  # fmt: skip

TRAIN = """
import json, sys
import ppo2
run_dir, stop_after, given = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
made = given.pop("make", None)
if made is not None:
    given["env"] = ppo2.make(given["env"], num_envs=given.pop("num_envs"), seed=given["seed"], **made)
def update_fn(update):
    return update != stop_after
begun = given.pop("begun", False)
ppo2.learn(run_dir=run_dir, load_path=run_dir if begun else None, update_fn=update_fn, **given)
"""
SWEEP = """
import json, sys
import ppo2
given = json.loads(sys.argv[2])
given["seed"] = range(*given["seed"])
ppo2.sweep(run_dir=sys.argv[1], **given)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder that holds the package ppo2: the tree compared with")
    parser.add_argument("after", type=Path, help="the same of the tree that is compared")
    parser.add_argument("--only", help="names of runs, with commas between")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="digests of the first tree, to make them only once")
    options = parser.parse_args()
    names = [*RUNS, "sweep", *(f"resumed_{name}" for name in RESUMED)]
    chosen = options.only.split(",") if options.only else names
    kept: dict[str, dict[str, str]] = {}
    if options.keep is not None and options.keep.exists():
        kept = json.loads(options.keep.read_text())
    different = 0
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            before = kept.get(name) or digests(name, options.before, options.before, Path(folder))
            after = digests(name, options.before, options.after, Path(folder))
        kept[name] = before
        wrong = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        print(f"{name:24} {'same' if not wrong else 'DIFFERENT: ' + ', '.join(wrong[:8])}  ({len(before)} parts)")
        sys.stdout.flush()
        different += bool(wrong)
    if options.keep is not None:
        options.keep.write_text(json.dumps(kept))
    return different


def digests(name: str, first: Path, second: Path, folder: Path) -> dict[str, str]:
    """Trains the run called `name` with the tree `second` and gives a digest of each part of what it left.

    Args:
        first: the tree that begins a run to be resumed; an unbroken run where both trees are the same.
    """
    out = folder / hashlib.sha256(str(second.resolve()).encode()).hexdigest()[:8]
    if name == "sweep":
        call(second, SWEEP, out, json.dumps({**SWEPT, "seed": [SWEPT["seed"].start, SWEPT["seed"].stop]}))
        return {file.name: digest_of_tensors(file) for file in sorted((out / "models").iterdir())}
    short = name.removeprefix("resumed_")
    given = {"total_timesteps": 4096, **SMALL, **RUNS[short]}
    if name != short and second != first:
        call(first, TRAIN, out, "3", json.dumps(given))
        call(second, TRAIN, out, "-1", json.dumps({**given, "begun": True}))
    else:
        call(second, TRAIN, out, "-1", json.dumps(given))
    newest = max((out / "checkpoints").glob("[0-9]*.safetensors"))
    found = dict(tensors(newest))
    found |= rows(out / "progress.csv")
    found |= rows(out / "monitor.csv")
    return found


def call(tree: Path, program: str, *arguments: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stdout[-2000:]}{done.stderr[-4000:]}")


def tensors(file: Path) -> dict[str, str]:
    """A digest of each array of a checkpoint."""
    import safetensors.numpy  # the only use, and of the parent alone

    return {
        name: hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
        for name, array in safetensors.numpy.load(file.read_bytes()).items()
    }


def digest_of_tensors(file: Path) -> str:
    return hashlib.sha256(json.dumps(tensors(file), sort_keys=True).encode()).hexdigest()


def rows(file: Path) -> dict[str, str]:
    """Each row of a log as text, without times."""
    with file.open(newline="") as opened:
        return {
            f"{file.stem}[{number}]": json.dumps({key: value for key, value in row.items() if key not in TIMES})
            for number, row in enumerate(csv.DictReader(line for line in opened if not line.startswith("#")))
        }


if __name__ == "__main__":
    sys.exit(main())
