"""How good a model is: whole episodes, with everything about it frozen."""

from typing import Any, NamedTuple

import numpy as np

from ppo2 import envs, spaces
from ppo2.envs.stepping import AnyVectorEnv, Stepper
from ppo2.model import Model
from ppo2.randomness import Purpose, root_key

NDArray = np.ndarray[Any, Any]


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths (timesteps) of episodes, each (episodes,), in the order in which they ended."""

    returns: NDArray
    lengths: NDArray

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())


def evaluate(
    model: Model, env: Any, episodes: int = 100, deterministic: bool = True, seed: int = 0, num_envs: int | None = None
) -> Evaluation:
    """Runs whole episodes. The normaliser is frozen and the model's random streams are left alone.

    Every environment gets an equal quota of episodes, fixed beforehand: counting the first to finish would favour
    short ones.

    Args:
        model: from `learn` or `load`.
        env: in any form that `learn` takes. One that you pass in is reset, and not closed.
        episodes: how many.
        deterministic: the most probable action; False samples.
        seed: of the environments and of sampling.
        num_envs: how many environments step side by side, for an id or a factory; None: 8, or fewer for few episodes.

    Raises:
        ValueError: `episodes` below 1, `env` can't be made, or has other spaces than the model.
    """
    if episodes < 1:
        raise ValueError(f"`episodes` (={episodes}) must be at least 1.")
    if num_envs is None and (isinstance(env, str) or _is_factory(env)):
        num_envs = min(envs.DEFAULT_NUM_ENVS, episodes)
    made = envs.resolve(env, num_envs)
    try:
        check_spaces(model, made.env)
        return run_episodes(model, made.env, episodes=episodes, deterministic=deterministic, seed=seed)
    finally:
        if made.owned:
            made.env.close()


def run_episodes(model: Model, env: AnyVectorEnv, *, episodes: int, deterministic: bool, seed: int) -> Evaluation:
    """`evaluate`, on a vector environment that is known to fit."""
    stepper = Stepper(env)
    key = root_key(seed, Purpose.EVALUATE)
    nenvs = env.num_envs
    quota = np.full(nenvs, episodes // nenvs) + (np.arange(nenvs) < episodes % nenvs)
    returns, lengths = np.zeros(nenvs), np.zeros(nenvs, int)
    done: list[tuple[float, int]] = []
    obs = stepper.reset(seed, Purpose.EVALUATE)
    count = 0
    while quota.any():
        response = model.respond(obs, key, count)
        step = stepper.step(np.asarray(response.mode if deterministic else response.sampled))
        obs, count = step.obs, count + 1
        returns += np.where(step.valid, step.rewards, 0.0)
        lengths += step.valid
        for i in np.flatnonzero((step.terminated | step.truncated) & step.valid):
            if quota[i]:
                quota[i] -= 1
                done.append((float(returns[i]), int(lengths[i])))
            returns[i], lengths[i] = 0.0, 0
    return Evaluation(np.array([r for r, _ in done]), np.array([length for _, length in done]))


def check_spaces(model: Model, env: AnyVectorEnv, name: str = "env") -> None:
    """Raises ValueError where the model was made for other spaces than the environment's."""
    pairs = (
        ("observation", model.observation_space, env.single_observation_space),
        ("action", model.action_space, env.single_action_space),
    )
    for kind, expected, found in pairs:
        if spaces.Spec(expected) != spaces.Spec(found):
            raise ValueError(
                f"`{name}` has another {kind} space than the model was made for: expected {expected}, found {found}."
            )


def _is_factory(env: Any) -> bool:
    return callable(env) and not hasattr(env, "step")
