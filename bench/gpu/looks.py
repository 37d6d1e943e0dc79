"""The parts of the table that look at ours alone: bits, images, latency, sweep, precision, and the tests."""

import dataclasses
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from parts import SIZES, SMALL_SIZES, cartpole, ours
from turns import UNPREALLOCATED, Bench, Fact, alone

from programs import OURS_ON_DEVICE, Program
from workloads import Workload, on_device

CARD = Program(name="card", script="ours_card.py", title="ppo2", variants={"configured": {}})
NETWORKS = Program(name="networks", script="networks_ours.py", title="ppo2", variants={"configured": {"xla": False}})
IMAGES = Workload(name="images", env="", num_envs=8, nsteps=128, noptepochs=4, nminibatches=4, log_interval=1)
BATCHES = {"mlp": (8, 64, 1024), "cnn": (8, 64)}
PRECISIONS = ("float32", "tf32", "bf16")
TESTS_AT_ONCE = 12


def bits(bench: Bench) -> Iterator[Fact]:
    """The same seed twice; stopped and resumed."""
    for _, found in alone(bench, ours(bench, CARD), {"bits": {}}, "same_bits"):
        for name, same in found.items():
            words = ", ".join(f"{way}: {'same' if equal else 'DIFFERENT'}" for way, equal in same.items())
            yield Fact(f"bits, {name}", words)


def images(bench: Bench) -> Iterator[Fact]:
    """Images made on the device, Nature's CNN: speed, and memory. Each number of them in a process of its own."""
    for num_envs in (2,) if bench.small else (8, 128):
        workload = _images(bench, num_envs)
        name = f"images made on the device, Nature CNN, {num_envs} x {workload.nsteps}"
        for _, found in alone(bench, ours(bench, CARD), {name: _timed(bench, workload)}, "images"):
            yield Fact(name, f"{found['steps_per_second']:,.0f} steps/s, peak memory {found['peak_gb']:.2f} GB")


def latency(bench: Bench) -> Iterator[Fact]:
    """Milliseconds from observations to actions in NumPy, on the card and without it."""
    for place, environment in (("the card", {}), ("the CPU", {"JAX_PLATFORMS": "cpu"})):
        jobs = {
            f"{network}, {batch:,}": {
                "network": network,
                "images": network == "cnn",
                "batch": batch,
                "seconds": 0.1 if bench.small else 0.5,
            }
            for network, batches in BATCHES.items()
            for batch in batches
        }
        found = alone(bench, ours(bench, NETWORKS, **environment), jobs, "act")
        words = "; ".join(f"{name}: {1e3 * result['seconds']:.3f} ms" for name, result in found)
        yield Fact(f"acting on {place}, NumPy to NumPy (network, observations)", words)


def sweep(bench: Bench) -> Iterator[Fact]:
    """Runs of one program together, against one run."""
    workload = dataclasses.replace(on_device("sweep", 16 if bench.small else 64), log_interval=10)
    few, many = 1, 2 if bench.small else 16
    jobs = {f"{runs} seeds": {**_timed(bench, workload), "runs": runs} for runs in (few, many)}
    rates = [found["steps_per_second"] for _, found in alone(bench, ours(bench, OURS_ON_DEVICE), jobs, "sweep")]
    work = f"sweep, gymnax CartPole, {workload.num_envs} x {workload.nsteps}, {few} / {many} seeds"
    yield Fact(work, f"{rates[0]:,.0f} / {rates[1]:,.0f} steps/s: {rates[1] / rates[0]:.1f} x")


def precision(bench: Bench) -> Iterator[Fact]:
    """Differences and speed by the precision of products."""
    for _, found in alone(bench, ours(bench, CARD), {"precision": {"seed": 0}}, "precision"):
        words = ", ".join(f"{name} {difference:.1e}" for name, difference in found.items())
        yield Fact("difference of log-probabilities from acting's (root mean square, learning rate 0)", words)
    num_envs = (SMALL_SIZES if bench.small else SIZES)[-1]
    mlp, cnn = cartpole(num_envs, small=bench.small), _images(bench, 2 if bench.small else 128)
    for title, workload, program, what in (
        (f"gymnax CartPole, {num_envs:,} x {mlp.nsteps}", mlp, OURS_ON_DEVICE, "speed"),
        (f"images, Nature CNN, {cnn.num_envs} x {cnn.nsteps}", cnn, CARD, "images"),
    ):
        jobs = {name: {**_timed(bench, workload), "more": {"precision": name}} for name in PRECISIONS}
        rates = {name: found["steps_per_second"] for name, found in alone(bench, ours(bench, program), jobs, what)}
        yield Fact(f"{title}, by precision", ", ".join(f"{name} {rate:,.0f} steps/s" for name, rate in rates.items()))


def tests(bench: Bench) -> Iterator[Fact]:
    """The project's tests, on the card; their output is kept in tests.txt."""
    root, log = Path(__file__).parents[2], bench.out / "tests.txt"
    chosen = ["tests/numerics/test_statistics.py"] if bench.small else ["tests"]
    command = [
        str(bench.python),
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-rfE",
        "-n",
        str(2 if bench.small else TESTS_AT_ONCE),
    ]
    # pytest tells of the failures so far when it is interrupted, which takes some seconds
    limit = ["timeout", "--signal=INT", "--kill-after=25", str(max(1.0, bench.left - 25))]
    with log.open("w") as out:
        environment = {**ours(bench, CARD).variables(None), **UNPREALLOCATED}
        subprocess.run([*limit, *command, *chosen], cwd=root, env=environment, stdout=out, stderr=out, check=False)
    lines = log.read_text(errors="replace").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    counted = [line for line in lines if re.search(r"\d+ (passed|failed)", line)]
    bench.tell(failed=failed, counted=counted)
    yield Fact("the tests", counted[-1].strip("= ") if counted else "told nothing: see tests.txt")


def _images(bench: Bench, num_envs: int) -> Workload:
    return dataclasses.replace(IMAGES, num_envs=num_envs, nsteps=16 if bench.small else 128)


def _timed(bench: Bench, workload: Workload) -> Mapping[str, Any]:
    return {"workload": workload.to_json(), "seconds": bench.seconds, "warmup": bench.seconds / 4, "seed": 0}
