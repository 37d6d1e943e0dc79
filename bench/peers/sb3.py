"""Measures Stable-Baselines3, SBX or sb3-contrib's RecurrentPPO, in a process of its own; needs nothing of ppo2. See
`bench/host.py` and `bench/recurrent.py`.
"""

import importlib
import time
from typing import Any

from steady import Job, Result, Watch, answer, watch_of


def train(job: Job, watch: Watch) -> None:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

    if job.get("threads") is not None:
        torch.set_num_threads(job["threads"])
    workload = job["workload"]

    class AfterEachUpdate(BaseCallback):  # type: ignore[misc]
        """A rollout starts when the update before it is done: the moment of our `update_fn`."""

        over = False

        def _on_rollout_start(self) -> None:
            if self.num_timesteps:
                self.over = watch.update_done(self.num_timesteps)

        def _on_step(self) -> bool:
            return not self.over

    hidden = list(workload["hidden"])
    algorithm: Any = PPO
    policy, policy_kwargs = "MlpPolicy", {"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.Tanh}
    if job.get("library") == "sbx":
        import flax.linen
        import sbx

        algorithm, policy_kwargs["activation_fn"] = sbx.PPO, flax.linen.tanh
    how = {"n_envs": workload["num_envs"], "seed": job["seed"], "vec_env_cls": DummyVecEnv}
    if workload["network"] == "cnn":
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        policy, policy_kwargs = "CnnPolicy", {}
        env = VecFrameStack(make_atari_env(workload["env"], **how), n_stack=4)
    else:
        env = make_vec_env(workload["env"], **how)
    if workload["network"] == "lstm":
        from sb3_contrib import RecurrentPPO

        algorithm, policy, shared = RecurrentPPO, "MlpLstmPolicy", workload["value_network"] == "shared"
        policy_kwargs = {"net_arch": {"pi": [], "vf": []}, "lstm_hidden_size": hidden[0]}
        policy_kwargs |= {"shared_lstm": shared, "enable_critic_lstm": not shared}
    if workload["normalize"]:
        env = VecNormalize(env, gamma=workload["gamma"])
    model = algorithm(
        policy,
        env,
        learning_rate=workload["lr"],
        n_steps=workload["nsteps"],
        batch_size=workload["num_envs"] * workload["nsteps"] // workload["nminibatches"],
        n_epochs=workload["noptepochs"],
        gamma=workload["gamma"],
        gae_lambda=workload["lam"],
        clip_range=workload["cliprange"],
        clip_range_vf=workload["value_cliprange"],
        ent_coef=workload["ent_coef"],
        vf_coef=workload["vf_coef"],
        max_grad_norm=workload["max_grad_norm"],
        policy_kwargs=policy_kwargs,
        seed=job["seed"],
        device=job.get("device", "cpu"),
    )
    model.learn(total_timesteps=10**12, callback=AfterEachUpdate())


def start(job: Job) -> Result:
    """Everything that comes before making the model: the imports, and CUDA's own start."""
    import stable_baselines3  # noqa: F401
    import torch

    torch.zeros(1, device=job["device"])
    return {"device": torch.cuda.get_device_name() if job["device"] == "cuda" else job["device"]}


def measured(job: Job) -> Result:
    watch = watch_of(job)
    train(job, watch)
    return watch.result


def learning(job: Job) -> Result:
    """A whole run with the settings of Baselines' MuJoCo benchmark, the value clip among them."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    env = VecNormalize(make_vec_env(job["env"], n_envs=1, seed=job["seed"]), gamma=0.99)
    model = PPO(
        "MlpPolicy",
        env,
        learning_rate=lambda frac: 3e-4 * frac,
        n_steps=2048,
        batch_size=64,
        n_epochs=10,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=0.2,
        ent_coef=0.0,
        vf_coef=0.5,
        max_grad_norm=0.5,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh},
        seed=job["seed"],
        device="cpu",
    )
    began = time.perf_counter()
    model.learn(total_timesteps=job["timesteps"])
    seconds = time.perf_counter() - began
    last = [episode["r"] for episode in model.ep_info_buffer]
    unseen = VecNormalize(make_vec_env(job["env"], n_envs=1, seed=1000), training=False, norm_reward=False)
    unseen.obs_rms = env.obs_rms
    mean, _ = evaluate_policy(model, unseen, n_eval_episodes=job["episodes"], deterministic=True)
    return {"last_100": float(sum(last) / len(last)), "deterministic": float(mean), "seconds": seconds}


def import_time(job: Job) -> Result:
    library = job.get("library", "stable_baselines3")
    begin = time.perf_counter()
    importlib.import_module(library)
    seconds = time.perf_counter() - begin
    from importlib.metadata import version

    names = ["stable_baselines3", "torch", "numpy", "gymnasium", *(("sbx-rl", "jax") if library == "sbx" else ())]
    return {"seconds": seconds, "versions": {name: version(name) for name in names}}


if __name__ == "__main__":
    answer({"start": start, "speed": measured, "startup": measured, "import": import_time, "learning": learning})
