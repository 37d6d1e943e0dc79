"""Small environments whose right answers are known."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from PIL import Image, ImageDraw, ImageFont


class Script(gym.Env[Any, Any]):
    """Observation k at step k of an episode; ends after `length` steps, by `end`. Reward k + 1 for the k-th step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 3, end: str = "terminated", offset: float = 0.0) -> None:
        self.length, self.end, self.offset = length, end, offset
        self.t = 0

    def _obs(self) -> Any:
        return np.array([self.offset + self.t], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t >= self.length
        return self._obs(), float(self.t), over and self.end == "terminated", over and self.end == "truncated", {}


class Bandit(gym.Env[Any, Any]):
    """Probe environments with known values and best actions: `kind` says which.

    | kind | observation | reward | answer |
    |---|---|---|---|
    | constant | 0 | 1 | V = 1 |
    | by_observation | -1 or 1 | the observation | V = observation |
    | two_steps | 0, then 1 | 0, then 1 | V(0) = gamma, V(1) = 1 |
    | best_action | 0 | 1 for action 0, else -1 | action 0 |
    | match | -1 or 1 | 1 if the action is what the observation says, else -1 | action = (observation > 0) |
    """

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.now = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = self.kind in ("by_observation", "match")
        self.now = float(self.np_random.choice([-1.0, 1.0])) if drawn else 0.0
        return np.array([self.now], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before, over = self.now, True
        match self.kind:
            case "constant":
                reward = 1.0
            case "by_observation":
                reward = before
            case "two_steps":
                reward, over, self.now = before, before == 1.0, 1.0
            case "best_action":
                reward = 1.0 if action == 0 else -1.0
            case "match":
                reward = 1.0 if (action == 1) == (before > 0) else -1.0
            case _:
                raise ValueError(self.kind)
        return np.array([self.now], np.float32), reward, over, False, {}


class Spaced(gym.Env[Any, Any]):
    """Any two spaces: samples its observations, checks its actions, and keeps the last of them."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], length: int = 5) -> None:
        self.observation_space, self.action_space, self.length = observation_space, action_space, length
        self.actions: list[Any] = []
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.actions.append(action)
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t >= self.length, False, {}


class Light(gym.Env[Any, Any]):
    """An image whose left or right half is white; reward 1 for saying which, an episode a step."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...] = (12, 12, 3)) -> None:
        self.observation_space = gym.spaces.Box(0, 255, shape, np.uint8)
        self.right = False

    def _obs(self) -> Any:
        image = np.zeros(self.observation_space.shape, np.uint8)
        half = image.shape[1] // 2
        image[:, half:] = 255 * self.right
        image[:, :half] = 255 * (not self.right)
        return image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.right = bool(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._obs(), float(action == self.right), True, False, {}


class Broken(gym.Env[Any, Any]):
    """Gives `obs` and `reward` from its `after`-th step on; before, what is right for its space."""

    action_space = gym.spaces.Discrete(2)

    def __init__(
        self, space: gym.Space[Any], obs: Any, reward: float = 0.0, at_reset: bool = False, after: int = 3
    ) -> None:
        self.observation_space, self.bad, self.reward = space, obs, reward
        self.at_reset, self.after = at_reset, after
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.t = 0
        return (self.bad if self.at_reset else self.observation_space.sample()), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        bad = self.t >= self.after
        return (self.bad if bad else self.observation_space.sample()), self.reward if bad else 0.0, False, False, {}


def vector(*factories: Callable[[], gym.Env[Any, Any]], mode: AutoresetMode) -> SyncVectorEnv:
    """A vector environment with the given automatic reset."""
    return SyncVectorEnv(list(factories), autoreset_mode=mode)


class Sequence(gym.Env[Any, Any]):
    """Wants a fixed sequence of actions, without ever showing where in it one is; 1 for each that is right."""

    observation_space = gym.spaces.Discrete(1)

    def __init__(self, n_actions: int = 10, length: int = 5) -> None:
        self.action_space = gym.spaces.Discrete(n_actions)
        self.wanted = np.random.default_rng(0).integers(n_actions, size=length)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = action == self.wanted[self.t]
        self.t += 1
        return 0, float(right), self.t == len(self.wanted), False, {}


class Recall(gym.Env[Any, Any]):
    """Shows a symbol at first and then nothing; `delay` steps later the action must be that symbol."""

    def __init__(self, delay: int = 3, symbols: int = 2) -> None:
        self.delay, self.symbols = delay, symbols
        self.observation_space = gym.spaces.Discrete(symbols + 1)
        self.action_space = gym.spaces.Discrete(symbols)
        self.t, self.symbol = 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.symbol = 0, int(self.np_random.integers(self.symbols))
        return self.symbol + 1, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t > self.delay
        return 0, float(over and action == self.symbol), over, False, {}


class Glyphs(gym.Env[Any, Any]):
    """Digits to be told apart, as in MNIST: drawn at a random place, of a random size, with noise. One step each."""

    observation_space = gym.spaces.Box(0, 255, (40, 40, 1), np.uint8)
    action_space = gym.spaces.Discrete(10)

    def _obs(self) -> Any:
        image = Image.new("L", (40, 40))
        self.digit = int(self.np_random.integers(10))
        size, x, y = (int(self.np_random.integers(*limits)) for limits in ((20, 32), (2, 14), (-2, 8)))
        ImageDraw.Draw(image).text((x, y), str(self.digit), fill=255, font=_font(size))
        noise = self.np_random.integers(0, 60, (40, 40))
        return np.clip(np.asarray(image, int) + noise, 0, 255).astype(np.uint8)[..., None]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = action == self.digit
        return self._obs(), float(right), True, False, {}


class Catch(gym.Env[Any, Any]):
    """A ball falls from the top of a field of 9 x 9, drawn as 36 x 36 pixels; 1 if the paddle is under it at last."""

    observation_space = gym.spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = gym.spaces.Discrete(3)  # left, stay, right

    def _obs(self) -> Any:
        field = np.zeros((9, 9), np.uint8)
        field[8, self.paddle] = 128
        field[self.t, self.ball] = 255
        return field.repeat(4, axis=0).repeat(4, axis=1)[..., None]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.ball, self.paddle = 0, int(self.np_random.integers(9)), 4
        return self._obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t, self.paddle = self.t + 1, int(np.clip(self.paddle + action - 1, 0, 8))
        over = self.t == 8
        return self._obs(), float(over and self.paddle == self.ball), over, False, {}


PARTS = gym.spaces.Dict(
    {
        "pose": gym.spaces.Box(-9, 9, (2,)),
        "arm": gym.spaces.Tuple([gym.spaces.Discrete(3, start=1), gym.spaces.MultiBinary(2)]),
        "lidar": gym.spaces.Box(-np.inf, np.inf, (2, 2)),
    }
)


class Parts(gym.Env[Any, Any]):
    """Several numbers, of which one says what to do: action 1 pays if pose[0] > 0, else 0. Over after 5 steps."""

    observation_space = PARTS
    action_space = gym.spaces.Discrete(2)

    def _obs(self) -> Any:
        pose = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.right = int(pose[0] > 0)
        bits = self.np_random.integers(0, 2, 2).astype(np.int8)
        return {
            "pose": pose,
            "arm": (int(self.np_random.integers(1, 4)), bits),
            "lidar": self.np_random.normal(size=(2, 2)).astype(np.float32),
        }

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        reward = float(action == self.right)
        return self._obs(), reward, False, self.t == 5, {}


LEGAL = gym.spaces.Dict(
    {"observation": gym.spaces.Box(-1, 1, (1,)), "action_mask": gym.spaces.Box(0, 1, (4,), np.int8)}
)


class Legal(gym.Env[Any, Any]):
    """Raises at an illegal action. The largest legal one pays 1; which are legal changes at every step."""

    observation_space = LEGAL
    action_space = gym.spaces.Discrete(4)
    stuck_at = -1

    def _obs(self) -> Any:
        self.mask = self.np_random.integers(0, 2, 4).astype(np.int8)
        self.mask[self.np_random.integers(4)] = 1
        if self.t == self.stuck_at:
            self.mask[:] = 0
        return {"observation": np.zeros(1, np.float32), "action_mask": self.mask.copy()}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        assert self.mask[action] or not self.mask.any(), f"{action} is illegal under {self.mask}"
        best = 3 - int(np.argmax(self.mask[::-1]))
        reward, over = float(action == best), self.t == 6
        obs = self._obs()
        if over:  # nothing is legal when all is over
            obs["action_mask"][:] = 0
        return obs, reward, False, over, {}


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)
