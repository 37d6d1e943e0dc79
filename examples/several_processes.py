"""Several processes, on one machine or many, train one model together. Alone, it uses one process.

    mpirun -n 2 python examples/several_processes.py --total-timesteps 100000
    torchrun --nproc-per-node 2 examples/several_processes.py        # srun and Kubernetes too: docs/distributed.md

`num_envs`, the batch and `total_timesteps` are those of all processes together, so the arguments stay the same.
"""

import tyro

import ppo2


def main(total_timesteps: int = 20_000, seed: int = 0, run_dir: str | None = None) -> None:
    ppo2.distributed.init()  # first of all: finds the other processes
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(env="CartPole-v1", run_dir=run_dir, **settings)  # the first process writes run_dir
    result = ppo2.evaluate(model, "CartPole-v1", episodes=20, seed=seed)  # each has its share of the episodes
    world = ppo2.distributed.world()
    if world.is_first:
        print(f"{world.size} processes, mean return {result.mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
