"""The parts of the table that compare ours with others, on the same card in the same run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from turns import UNPREALLOCATED, Bench, Fact, Row, Taken, in_turn

from programs import DEVICE_PEERS, OURS, OURS_ON_DEVICE, PEERS, Contender, Program
from workloads import WORKLOADS, Workload, on_device

LOOK_STEPS = 2**23
"""Steps between two rows of our log, and of a compiled call of a peer: a tenth of a second to a third on a card."""

BRAX = Program(name="brax", script="brax_ppo.py", title="Brax's PPO", variants={"own": {}})
ANT = Workload(
    name="Ant",
    env="brax:ant",
    num_envs=4096,
    nsteps=80,
    noptepochs=4,
    nminibatches=32,
    lr=3e-4,
    gamma=0.97,
    cliprange=0.3,
    hidden=(128,) * 4,
    activation="silu",
    normalize=True,
    log_interval=16,
)
INTERVALS = 4  # of a run on Ant, each of `log_interval` updates: 21 million steps together
SIZES, SMALL_SIZES = (2048, 16384), (16, 64)


def ours(bench: Bench, program: Program, **environment: str) -> Contender:
    return Contender(program, "configured", bench.python, {**UNPREALLOCATED, **environment})


def cartpole(num_envs: int, *, small: bool) -> Workload:
    """CartPole of gymnax, with rows as rare as a card's speed asks for."""
    look = 2**14 if small else LOOK_STEPS
    workload = on_device(f"{num_envs}", num_envs)
    return dataclasses.replace(workload, log_interval=max(1, look // (num_envs * workload.nsteps)))


def compared(work: str, taken: Mapping[str, Taken], other: str, target: float, more: str = "") -> Row:
    """Steps per second of ours beside another's."""
    theirs = taken[other].rates if other in taken else []
    return Row(work, "steps/s", other, taken["ppo2"].rates, theirs, target, more=more)


def device(bench: Bench) -> Iterator[Row]:
    """CartPole of gymnax beside rejax, our log and monitor.csv written all the while."""
    rejax = Contender(DEVICE_PEERS["rejax"], "jitted", bench.python, UNPREALLOCATED)
    workloads = {
        f"gymnax CartPole, {num_envs:,} x 128": cartpole(num_envs, small=bench.small)
        for num_envs in (SMALL_SIZES if bench.small else SIZES)
    }
    taken = in_turn(bench, {"ppo2": ours(bench, OURS_ON_DEVICE), "rejax": rejax}, workloads)
    for work, of in taken.items():
        yield compared(work, of, "rejax", 1.25)
        mine, theirs = ([of[title].first["compile_seconds"]] if title in of else [] for title in ("ppo2", "rejax"))
        yield Row(f"{work}: compiling", "s", "rejax", mine, theirs, less_is_better=True)


def ant(bench: Bench) -> Iterator[Row | Fact]:
    """Ant of Brax beside Brax's own PPO: a whole run each, from the start of the process. The repeats of its speed are
    the intervals of the run after the first, which compiles.
    """
    workload, intervals = ANT, INTERVALS
    if bench.small:
        workload, intervals = dataclasses.replace(ANT, num_envs=32, nminibatches=4, log_interval=1), 3
    updates = intervals * workload.log_interval
    job: dict[str, Any] = {
        "workload": workload.to_json(),
        "env_kwargs": {"backend": "spring"},
        "updates": updates,
        "intervals": intervals,
        "seed": 1,
    }
    work = f"Brax Ant (spring), {workload.num_envs:,} x {workload.nsteps}"
    found: dict[str, Any] = {}
    for program, variant in ((OURS_ON_DEVICE, "configured"), (BRAX, "own")):
        contender = Contender(program, variant, bench.python)
        title = program.title
        found[title] = contender.measure("whole", cache=bench.empty_cache(), timeout=bench.left, **job)
        bench.tell(work=work, program=title, **found[title])
        rates = ", ".join(f"{rate:,.0f}" for rate in found[title]["rates"])
        first = f"the first interval ends after {found[title]['first_seconds']:.1f} s"
        yield Fact(
            f"{work}, {title}", f"{first}, later ones: {rates} steps/s; mean return {found[title]['return']:,.0f}"
        )
    mine, theirs = found["ppo2"], found[BRAX.title]
    yield Row(work, "steps/s", BRAX.title, mine["rates"], theirs["rates"], 1.15)
    whole = f"{work}: from the start to {updates * workload.num_envs * workload.nsteps:,} steps"
    yield Row(whole, "s", BRAX.title, [mine["seconds"]], [theirs["seconds"]], 1.0, less_is_better=True)
    trained = theirs["seconds"] - theirs["evaluations"]
    words = "but for its evaluations, which alone tell its returns"
    yield Row(f"{whole}, {words}", "s", BRAX.title, [mine["seconds"]], [trained], less_is_better=True)


def host(bench: Bench) -> Iterator[Row]:
    """CartPole on the host, as it comes on a machine with a card, beside the same without the card."""
    work = "CartPole-v1 on the host, 8 x 128"
    contenders = {"ppo2": ours(bench, OURS), "CPU alone": ours(bench, OURS, JAX_PLATFORMS="cpu")}
    yield compared(work, in_turn(bench, contenders, {work: WORKLOADS["W1"]})[work], "CPU alone", 0.95)


def breakout(bench: Bench) -> Iterator[Row]:
    """Breakout with Nature's CNN beside Stable-Baselines3 on the card."""
    work, workload = "Breakout, 8 x 128, Nature CNN", WORKLOADS["W4"]
    name = "cpu" if bench.small else "cuda"
    program = dataclasses.replace(PEERS["sb3"], variants={"card": {"threads": None, "device": name}})
    contenders = {"ppo2": ours(bench, OURS), program.title: Contender(program, "card", bench.python)}
    of = in_turn(bench, contenders, {work: workload})[work]
    shares = of["ppo2"].repeats[-1]["shares"] or {}
    yield compared(work, of, program.title, 2.0, ", ".join(f"{part} {share:.0%}" for part, share in shares.items()))
