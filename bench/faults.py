"""Cost of looking for numbers that are not finite: `python bench/faults.py`.

The same updates, in turns with the checks and without them (where `find_fault` says "none", and `judged` and
`only_finite` "as it is"), on the same rollout: the median of the differences of neighbours, and their share of the time
of a whole update, rollout included.
"""

import argparse
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

import ppo2
from ppo2.agent.compiled import Programs
from ppo2.agent.model import Model
from ppo2.algorithm.faults import Fault, FaultKind
from ppo2.envs import DeviceVector
from ppo2.runners.device import DeviceRunner
from ppo2.runners.host import Runner

CASES: dict[str, dict[str, Any]] = {
    "CartPole-v1, 8 x 128": {"env": "CartPole-v1", "num_envs": 8, "nsteps": 128},
    "HalfCheetah-v5, 8 x 256, normalised": {"env": "HalfCheetah-v5", "num_envs": 8, "nsteps": 256, "noptepochs": 10},
    "gymnax:CartPole-v1, 8 x 128": {"env": "gymnax:CartPole-v1", "num_envs": 8, "nsteps": 128},
    "gymnax:CartPole-v1, 1024 x 128": {"env": "gymnax:CartPole-v1", "num_envs": 1024, "nsteps": 128},
}


def none_found(*_: Any, **__: Any) -> Fault:
    return Fault(jnp.int32(FaultKind.NONE), jnp.int32(0))


def not_judged(_: Any, __: Any, stats: Any) -> Any:
    return stats.in_program()


def as_it_is(_: Any, after: Any, stats: Any) -> Any:
    return after, stats.in_program()


def made(settings: dict[str, Any], checked: bool) -> tuple[Callable[[], None], float]:
    """One update, whose programs are compiled with the checks or without them; and the seconds that a rollout takes on
    top of it.
    """
    settings = dict(settings)
    shape = {name: settings.pop(name) for name in ("env", "num_envs", "nsteps")}
    normalised = str(shape["env"]).startswith("Half")
    held: list[Model] = []
    programs: Programs = OrderedDict()
    replaced: list[tuple[str, Any, list[str]]] = [
        ("find_fault", none_found, ["algorithm.update"]),
        ("judged", not_judged, ["agent.model_programs"]),
        ("only_finite", as_it_is, ["runners.device_program"]),
    ]
    patches: list[Any] = [mock.patch("ppo2.agent.compiled.SHARED", programs)]
    for name, stand_in, modules in [] if checked else replaced:
        patches += [mock.patch(f"ppo2.{module}.{name}", stand_in) for module in modules]

    def model_fn(**given: Any) -> Model:
        held.append(Model(**given))
        return held[0]

    arguments = {**settings, **shape, "normalize_obs": normalised, "normalize_rewards": normalised}
    ppo2.learn(**arguments, total_timesteps=0, seed=0, model_fn=model_fn)
    model = held[0]
    vector = ppo2.envs.resolve(shape["env"], shape["num_envs"]).env
    how: dict[str, Any] = {"model": model, "nsteps": shape["nsteps"], "gamma": 0.99, "lam": 0.95}

    def update() -> None:
        for patch in patches:
            patch.start()
        try:
            if isinstance(runner, DeviceRunner):
                runner.iterate([hyper])
            else:
                jax.block_until_ready(model.train(rollout, lr=3e-4, cliprange=0.2))
        finally:
            for patch in patches:
                patch.stop()

    rolling = 0.0
    runner: Runner | DeviceRunner
    if isinstance(vector, DeviceVector):
        runner = DeviceRunner(env=vector.env, num_envs=vector.num_envs, checked=True, **how)
        hyper = model.hyperparameters(lr=3e-4, cliprange=0.2)
    else:
        runner = Runner(env=vector, **how)
        rollout = runner.run()
        rolling = min(timed(runner.run) for _ in range(5))
        vector.close()
    return update, rolling


def timed(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200, help="of updates (200)")
    pairs = parser.parse_args().pairs
    ppo2.configure_runtime()
    for name, settings in CASES.items():
        print(name)
        (checked, rolling), (unchecked, _) = made(settings, True), made(settings, False)
        for update in (checked, unchecked) * 3:
            update()
        times = []
        for i in range(max(20, pairs // 5) if "1024" in name else pairs):
            one, other = (timed(update) for update in ((checked, unchecked) if i % 2 else (unchecked, checked)))
            times.append((one, other) if i % 2 else (other, one))
        base = rolling + statistics.median(without for _, without in times)
        more = statistics.median(with_ - without for with_, without in times)
        print(
            f"  an update takes {1e3 * base:.2f} ms, the checks {1e6 * more:+.0f} us of it: {100 * more / base:+.2f} %"
        )


if __name__ == "__main__":
    main()
