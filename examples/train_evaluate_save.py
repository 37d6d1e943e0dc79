"""Train on CartPole-v1, evaluate, save the model, load it, act with it.

Usage: python examples/train_evaluate_save.py --total-timesteps 50000
"""

import tyro

import ppo2


def main(total_timesteps: int = 20_000, seed: int = 0, file: str = "runs/cartpole.safetensors") -> None:
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(env="CartPole-v1", **settings)
    trained = ppo2.evaluate(model, "CartPole-v1", episodes=20, seed=seed)

    model.save(file)  # weights, optimiser, statistics; no code, so a stranger's file is safe to load
    model = ppo2.load(file)
    loaded = ppo2.evaluate(model, "CartPole-v1", episodes=20, seed=seed)
    assert loaded.returns.tolist() == trained.returns.tolist()

    env = ppo2.make("CartPole-v1", num_envs=2, seed=seed)
    obs, _ = env.reset(seed=seed)
    for _ in range(5):
        actions, _ = model.predict(obs)  # the most probable action of each environment
        obs, *_ = env.step(actions)  # rewards, terminated, truncated, infos
    env.close()
    print(f"standard deviation {loaded.std:.1f}, mean return {loaded.mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
