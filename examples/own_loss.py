"""A custom loss: PPO with a higher upper limit of the probability ratio ("clip higher", DAPO, arXiv:2503.14476).

Usage: python examples/own_loss.py --total-timesteps 50000
"""

from typing import Any

import jax.numpy as jnp
import tyro

import ppo2


class ClipHigher(ppo2.Model):
    """Replaces the policy term of the loss; everything else is unchanged."""

    higher = 0.28

    def loss(self, policy: Any, normaliser: Any, batch: Any, hyper: Any) -> Any:
        new = policy.evaluate(normaliser, batch.obs, batch.actions, batch.recurrent_state, batch.episode_starts)
        loss, stats = ppo2.ppo_loss(new, batch, hyper)
        ratio = jnp.exp(new.logp - batch.logp)
        clipped = jnp.clip(ratio, 1.0 - hyper.cliprange, 1.0 + self.higher)
        policy_loss = ppo2.weighted_mean(
            jnp.maximum(-batch.advantages * ratio, -batch.advantages * clipped), batch.weights
        )
        return loss - stats.policy_loss + policy_loss, stats._replace(policy_loss=policy_loss)


def main(total_timesteps: int = 20_000, seed: int = 0) -> None:
    settings = {**ppo2.preset("CartPole-v1"), "total_timesteps": total_timesteps, "seed": seed}
    model = ppo2.learn(env="CartPole-v1", model_fn=ClipHigher, **settings)
    print(f"mean return {ppo2.evaluate(model, 'CartPole-v1', episodes=20, seed=seed).mean:.1f}")


if __name__ == "__main__":
    tyro.cli(main)
