"""Self-play: an agent learns a game against earlier copies of itself.

Usage: python examples/self_play.py --rounds 12

The game is Nim: two players take 1 to 3 stones in turn. The last stone wins. A perfect move leaves a multiple of 4.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import tyro

import ppo2

STONES = 12
SETTINGS: dict[str, Any] = {"lr": 3e-3, "gamma": 0.9, "ent_coef": 0.01}


class Nim(gym.Env[Any, Any]):
    """The opponent's moves are part of the environment. The reward is 1 for a win, -1 for a loss."""

    observation_space = gym.spaces.Discrete(STONES + 1)  # stones that are left; the network sees them one-hot
    action_space = gym.spaces.Discrete(3, start=1)  # stones to take

    def __init__(self, opponent: ppo2.Model | None) -> None:
        self.opponent = opponent

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.stones = int(self.np_random.integers(4, STONES + 1))
        return self.stones, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.stones = max(self.stones - int(action), 0)
        if not self.stones:
            return 0, 1.0, True, False, {}
        self.stones = max(self.stones - int(self.answer()), 0)
        return self.stones, -float(not self.stones), not self.stones, False, {}

    def answer(self) -> Any:
        if self.opponent is None:
            return self.np_random.integers(1, 4)
        return self.opponent.predict(np.int64(self.stones), deterministic=False)[0]


def main(rounds: int = 4, timesteps: int = 5_000, seed: int = 0) -> None:
    model: ppo2.Model | None = None
    for _ in range(rounds):  # each begins with the weights of the last one, against the last one
        env = ppo2.make(Nim, opponent=model, num_envs=8, workers=0, seed=seed)  # workers=0: the model stays here
        model = ppo2.learn(env=env, load_path=model, nsteps=64, total_timesteps=timesteps, seed=seed, **SETTINGS)
        env.close()
    assert model is not None
    moves = {stones: int(model.predict(np.int64(stones))[0]) for stones in range(1, STONES + 1) if stones % 4}
    right = [max(stones - taken, 0) % 4 == 0 for stones, taken in moves.items()]
    print(f"perfect moves, in per cent: {100 * np.mean(right):.0f}")


if __name__ == "__main__":
    tyro.cli(main)
