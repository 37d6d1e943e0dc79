"""Measures ppo2 in a process of its own; `bench/host.py` starts it and reads the last line of its output."""

import json
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from steady import Job, Result, SteadyRate, Watch, answer, watch_of

SAME_NAMES = (
    *("num_envs", "nsteps", "noptepochs", "nminibatches", "lr", "gamma", "lam", "cliprange", "value_cliprange"),
    *("vf_coef", "ent_coef", "max_grad_norm", "log_interval"),
)

USUAL_TIMESTEPS, MOST_RATE = 1_000_000, 200_000.0
"""Timesteps of a run, and timesteps per second that no workload reaches on a host."""


def train(job: Job, watch: Watch, run_dir: Path | None = None) -> None:
    import ppo2

    if job["configure_runtime"]:
        ppo2.configure_runtime()
    if job["configure_runtime"] is False:
        os.environ["PPO2_CONFIGURE"] = "0"
    workload = job["workload"]
    batch = workload["num_envs"] * workload["nsteps"]
    width, *others = workload["hidden"]
    assert all(other == width for other in others), "ppo2's mlp has one width"

    def update_done(update: int) -> bool:
        return not watch.update_done(update * batch)

    networks = {
        "mlp": {"value_network": "copy", "num_hidden": width, "num_layers": len(workload["hidden"])},
        "lstm": {"value_network": workload["value_network"], "nlstm": width},
        "cnn": {},
    }
    ppo2.learn(
        env=workload["env"],
        total_timesteps=length(job),
        seed=job["seed"],
        update_fn=update_done,
        network=workload["network"],
        **networks[workload["network"]],
        normalize_obs=workload["normalize"],
        normalize_rewards=workload["normalize"],
        run_dir=run_dir,
        **{name: workload[name] for name in SAME_NAMES},
    )


def length(job: Job) -> int:
    """Timesteps that the run is to have, by which ours chooses how environments are stepped: a million, as `learn` has
    by default, or more where the window may need more; of a start, the few updates that are made.
    """
    if job["measure"] == "startup":
        workload = job["workload"]
        return int(job["updates"] * workload["num_envs"] * workload["nsteps"])
    return max(USUAL_TIMESTEPS, int(MOST_RATE * (job["seconds"] + job["warmup"])))


def start(job: Job) -> Result:
    """Everything that comes before compiling: the imports, and JAX's own start."""
    import jax

    import ppo2

    if job["configure_runtime"]:
        ppo2.configure_runtime()
    jax.block_until_ready(jax.numpy.zeros(1))
    return {"device": jax.devices()[0].device_kind}


def speed(job: Job) -> Result:
    """Steps per second, and where the time went by our own log, which is written meanwhile."""
    watch = SteadyRate(job["seconds"], job["warmup"])
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        train(job, watch, run_dir)
        rows = [json.loads(line) for line in (run_dir / "progress.jsonl").read_text().splitlines()]
    return {**watch.result, "shares": shares(rows, watch.first_update)}


def shares(rows: list[dict[str, Any]], first_update: int) -> dict[str, float] | None:
    """Shares of time in stepping, acting and training, over the rows that lie in the window; None if there is none."""
    inside = [
        (after["misc/time_elapsed"] - before["misc/time_elapsed"], after)
        for before, after in pairwise(rows)
        if before["misc/nupdates"] + 1 >= first_update
    ]
    if not inside:
        return None
    total = sum(seconds for seconds, _ in inside)
    return {
        name: sum(seconds * row[f"time/{name}"] for seconds, row in inside) / total for name in ("step", "act", "train")
    }


def startup(job: Job) -> Result:
    watch = watch_of(job)
    train(job, watch)
    return watch.result


def ceiling(job: Job) -> Result:
    """Steps per second of the environment alone: random actions, drawn beforehand, and no policy."""
    import ppo2

    workload = job["workload"]
    env = ppo2.make(workload["env"], num_envs=workload["num_envs"], seed=job["seed"])
    env.action_space.seed(job["seed"])
    actions = [env.action_space.sample() for _ in range(1024)]
    env.reset()
    begin = now = time.perf_counter()
    vector_steps, warm = 0, False
    while now - begin < job["seconds"]:
        for action in actions:
            env.step(action)
        vector_steps += len(actions)
        now = time.perf_counter()
        if not warm:
            begin, vector_steps, warm = now, 0, True
    env.close()
    steps = vector_steps * workload["num_envs"]
    return {"steps_per_second": steps / (now - begin), "steps": steps, "seconds": now - begin}


def stepping(job: Job) -> Result:
    """Steps per second of an environment without a policy, by each engine in turn, slice by slice: ours in this process
    and with workers, Gymnasium's SyncVectorEnv and, if asked for, AsyncVectorEnv. One slice of each is a row.
    """
    import ppo2

    env_id, count = job["env"], job["num_envs"]
    auto = ppo2.make(env_id, num_envs=count, seed=job["seed"])
    chosen = "workers" if "worker" in auto.stepped_by else "alone"
    auto.close()
    made: dict[str, Any] = {
        "sync": gymnasiums(env_id, count, "sync"),
        "alone": ppo2.make(env_id, num_envs=count, seed=job["seed"], workers=0),
        "workers": ppo2.make(env_id, num_envs=count, seed=job["seed"], workers=min(job["workers"], count - 1)),
    }
    if job["asynchronous"]:
        made["async"] = gymnasiums(env_id, count, "async")
    for name, env in made.items():
        env.reset(seed=job["seed"])
        made[name].action_space.seed(job["seed"])
    actions = [made["sync"].action_space.sample() for _ in range(512)]
    rows = []
    for _ in range(job["rounds"] + 1):
        row = {}
        for name, env in made.items():
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < job["seconds"]:
                for action in actions[steps % 512 : steps % 512 + 8]:
                    env.step(action)
                steps += 8
            row[name] = steps * count / (time.perf_counter() - began)
        rows.append(row)
    for env in made.values():
        env.close()
    return {"rows": rows[1:], "chosen": chosen}  # the first warms up


def gymnasiums(env_id: str, count: int, mode: str) -> Any:
    """Gymnasium's own vector environment, with its standard wrappers."""
    import gymnasium as gym

    wrappers: list[Any] = []
    if env_id.endswith("NoFrameskip-v4"):
        import ale_py

        gym.register_envs(ale_py)
        wrappers = [gym.wrappers.AtariPreprocessing, lambda env: gym.wrappers.FrameStackObservation(env, 4)]
    if env_id.startswith("MiniGrid"):
        import minigrid

        gym.register_envs(minigrid)
        wrappers = [minigrid.wrappers.ImgObsWrapper]
    return gym.make_vec(env_id, count, vectorization_mode=mode, wrappers=wrappers)


def learning(job: Job) -> Result:
    """A whole run of the preset."""
    import ppo2

    settings = {**ppo2.preset(job["env"]), "total_timesteps": job["timesteps"], "run_dir": job["run_dir"]}
    began = time.perf_counter()
    model = ppo2.learn(env=job["env"], seed=job["seed"], **settings)
    seconds = time.perf_counter() - began
    rows = (Path(job["run_dir"]) / "monitor.csv").read_text().splitlines()[2:]
    last = [float(row.split(",")[0]) for row in rows[-100:]]
    evaluation = ppo2.evaluate(model, job["env"], episodes=job["episodes"], seed=1000)
    return {"last_100": sum(last) / len(last), "deterministic": evaluation.mean, "seconds": seconds}


def import_time(job: Job) -> Result:  # noqa: ARG001
    begin = time.perf_counter()
    import ppo2  # noqa: F401

    seconds = time.perf_counter() - begin
    from importlib.metadata import version

    return {"seconds": seconds, "versions": {name: version(name) for name in ("ppo2", "jax", "numpy", "gymnasium")}}


if __name__ == "__main__":
    answer(
        {
            "start": start,
            "speed": speed,
            "startup": startup,
            "import": import_time,
            "ceiling": ceiling,
            "learning": learning,
            "stepping": stepping,
        }
    )
