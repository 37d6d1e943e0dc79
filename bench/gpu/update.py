"""One update on a device environment, by itself: its time, its compile time, and the kernels that it launches.

    python bench/gpu/update.py                                    # CartPole of gymnax, 2,048 and 16,384 x 128
    python bench/gpu/update.py --sizes 2048 --precisions float32,tf32,TF32_TF32_F32_X3,BF16_BF16_F32_X6 --out FOLDER
    python bench/gpu/update.py --small                            # whether it works, on a CPU

Printed are lines of JSON, by precision and size: the whole update, then acting alone (the rollout with its values).
`ms`: of one update, the median of the calls, each of several updates. `compile_seconds`: while the programs of the same
precision compile beside it. `loops`: for each loop of the optimised program its turns (None: they depend on data) and
what one turn launches, by operation. `kernels`: how many one update ran by JAX's profiler, their milliseconds, and
the longest: name, count, milliseconds; none on a CPU. `error`: of one product of 64 numbers, relative to its factors,
the greatest of many; about 3e-7 is float32, 3e-4 TF32.

A precision is one of ours, or a name that `jax.default_matmul_precision` takes: an algorithm of products among them.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import ppo2
from ppo2.agent.model import Model
from ppo2.agent.policy import build_policy
from ppo2.algorithm.faults import only_finite
from ppo2.config import Config
from ppo2.numerics import precision as precisions
from ppo2.numerics.compilation import compiled
from ppo2.numerics.randomness import root_key
from ppo2.runners import device_program

SIZES, SMALL_SIZES = (2048, 16384), (8,)
UPDATES = 2**18
"""Environments times updates of a call: 128 updates of 2,048 environments, about a second."""
CALLS = 3
TOP = 15

Compiled = Any  # of JAX's stages


class Work:
    """The programs of one size at one precision: several updates in a loop, as in a chunk of training."""

    def __init__(self, num_envs: int, nsteps: int, precision: str) -> None:
        self.num_envs = num_envs
        self.nsteps = nsteps
        self.env = ppo2.make("gymnax:CartPole-v1")
        is_ours = precision in precisions.NAMES
        policy = build_policy(
            self.env.observation_space,
            self.env.action_space,
            value_network="copy",
            precision=precision if is_ours else None,
            key=root_key(0),
        )
        config = Config(num_envs=num_envs, nsteps=nsteps, noptepochs=4, nminibatches=4, shards=1)
        self.model = Model(policy=policy, config=config, key=root_key(1))
        envs = device_program.start(self.env, self.model, num_envs, 0)
        hyper = self.model.hyperparameters(lr=2.5e-4, cliprange=0.2)
        self.arguments = (self.model.state, envs, hyper, np.float32(0.99), np.float32(0.95))

    def whole(self, state: Any, envs: Any, hyper: Any, gamma: Any, lam: Any, count: Any) -> Any:
        """`count` updates, and a sum that nothing of them can be left out for."""

        def one(_: Any, so_far: Any) -> Any:
            state, envs, total = so_far
            envs, rollout, ends = self._collected(state, envs, gamma, lam)
            state, stats = only_finite(state, *self.model.update(state, rollout, hyper))
            return state, envs, total + _sum((stats, ends))

        return jax.lax.fori_loop(0, count, one, (state, envs, jnp.float32(0)))

    def acting(self, state: Any, envs: Any, _: Any, gamma: Any, lam: Any, count: Any) -> Any:
        """`count` rollouts, completed with values."""

        def one(_: Any, so_far: Any) -> Any:
            envs, total = so_far
            envs, *made = self._collected(state, envs, gamma, lam)
            return envs, total + _sum(made)

        return jax.lax.fori_loop(0, count, one, (envs, jnp.float32(0)))

    def _collected(self, state: Any, envs: Any, gamma: Any, lam: Any) -> Any:
        return device_program.collect(self.model, self.env, state, envs, gamma, lam, steps=self.nsteps)[:3]

    def lowered(self, part: str) -> Any:
        """The program of `whole` or `acting`, to be compiled."""
        return compiled(getattr(self, part)).lower(*self.arguments, np.int32(1))

    def run(self, program: Compiled, count: int) -> float:
        """The seconds of a call of `count` updates."""
        began = time.perf_counter()
        jax.block_until_ready(program(*self._placed, np.int32(count)))
        return time.perf_counter() - began

    @functools.cached_property
    def _placed(self) -> Any:
        return jax.block_until_ready(jax.device_put(self.arguments))


def _sum(of: Any) -> Any:
    return sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(of))


# --- launches -----------------------------------------------------------------------------------------------------

FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "opt-barrier")
"""Operations that launch nothing. The end of an asynchronous one (`-done`) doesn't either."""


def loops(text: str) -> list[dict[str, Any]]:
    """The loops of an optimised program, those with most launches first; see the module."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL))
    found = []
    for line in re.findall(r"^.* while\(.*$", text, re.MULTILINE):
        body, turns = re.search(r"body=%?([\w.\-]+)", line), re.search(r'known_trip_count[^0-9]*"(\d+)"', line)
        if body is None or body[1] not in bodies:
            continue
        counts = _launches(bodies, body[1])
        found.append(
            {"turns": int(turns[1]) if turns else None, "launches": counts.total(), **dict(counts.most_common(6))}
        )
    return sorted(found, key=lambda one: -one["launches"])


def _launches(bodies: dict[str, str], name: str) -> collections.Counter[str]:
    """Counts of operations that launch something, those of graphs of commands among them."""
    counts = collections.Counter[str]()
    for line in bodies[name].splitlines():
        code = re.match(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*?[\]\})] ([a-z][a-z\-]+)\(", line)
        graph = re.search(r"to_apply=%?(command_buffer[\w.\-]*)", line)
        if graph and graph[1] in bodies:
            counts += _launches(bodies, graph[1])
        elif code and code[1] not in FREE and not code[1].endswith("-done"):
            counts[code[1]] += 1
    return counts


def kernels(work: Work, program: Compiled) -> dict[str, Any]:
    """The kernels of one update, by JAX's profiler."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            work.run(program, 1)
        data: Any = jax.profiler.ProfileData.from_file(str(next(Path(folder).rglob("*.xplane.pb"))))
    counts, spent = collections.Counter[str](), collections.Counter[str]()
    planes = [plane for plane in data.planes if plane.name.startswith("/device:GPU")]
    for line in (line for plane in planes for line in plane.lines if line.name.startswith("Stream")):
        for event in line.events:
            counts[event.name] += 1
            spent[event.name] += event.duration_ns / 1e6
    top = [[name[:80], counts[name], round(ms, 3)] for name, ms in spent.most_common(TOP)]
    return {"ran": counts.total(), "ms": round(spent.total(), 2), "longest": top}


# --- measuring ----------------------------------------------------------------------------------------------------


def product_error(precision: str) -> float:
    """See `error` of the module."""
    factors = [np.random.default_rng(i).normal(size=(512, 64)).astype(np.float32) for i in range(2)]
    with precisions.products(precision) if precision in precisions.NAMES else contextlib.nullcontext():
        found = jax.jit(lambda a, b: precisions.multiplied(jnp.dot, a, b.T))(*factors)
    a, b = (factor.astype(np.float64) for factor in factors)
    return float(np.max(np.abs(np.asarray(found, np.float64) - a @ b.T) / (np.abs(a) @ np.abs(b).T)))


def measure(precision: str, sizes: Sequence[int], nsteps: int, out: Path | None) -> None:
    """Prints the lines of one precision; its programs compile side by side, and are timed afterwards."""
    works = [Work(num_envs, nsteps, precision) for num_envs in sizes]
    about = {"precision": precision, "device": jax.devices()[0].device_kind, "jax": jax.__version__}

    def compile_(lowered: Any) -> tuple[Compiled, float]:
        began = time.perf_counter()
        return lowered.compile(), time.perf_counter() - began

    jobs = [(work, part, work.lowered(part)) for work in works for part in ("whole", "acting")]
    with ThreadPoolExecutor(len(jobs)) as pool:
        programs = list(pool.map(compile_, [job[-1] for job in jobs]))
    print(json.dumps({**about, "error": float(f"{product_error(precision):.2g}")}), flush=True)
    for (work, part, _), (program, seconds) in zip(jobs, programs, strict=True):
        updates = max(1, UPDATES // work.num_envs) if sizes != SMALL_SIZES else 2
        work.run(program, 1)
        ms = statistics.median(work.run(program, updates) for _ in range(CALLS)) / updates * 1e3
        text = program.as_text()
        line = {
            **about,
            "part": part,
            "size": f"{work.num_envs} x {work.nsteps}",
            "ms": round(ms, 3),
            "compile_seconds": round(seconds, 1),
            "loops": loops(text),
            "kernels": kernels(work, program),
        }
        print(json.dumps(line), flush=True)
        if out is not None:
            (out / f"{part}_{work.num_envs}_{precision}.hlo.txt").write_text(text)


def main() -> None:
    options = parse(sys.argv[1:])
    sizes, nsteps = (SMALL_SIZES, 8) if options.small else (tuple(options.sizes), 128)
    for precision in options.precisions:
        is_ours = precision in precisions.NAMES
        try:
            with contextlib.nullcontext() if is_ours else jax.default_matmul_precision(precision):
                measure(precision, sizes, nsteps, options.out)
        except Exception as error:  # one that this device doesn't have; the others are wanted all the same
            print(json.dumps({"precision": precision, "failed": str(error)[-500:]}), flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", type=lambda text: text.split(","), default=["float32"], metavar="NAMES")
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=SIZES, metavar="N,N")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="for the programs' text ($OUT)")
    parser.add_argument("--small", action="store_true", help="tiny: whether it works, not how fast")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
