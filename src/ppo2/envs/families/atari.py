"""Atari games with the treatment of DeepMind and Baselines, in one wrapper; without JAX."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from ppo2.envs.families.factories import Options
from ppo2.envs.host.env_types import AnyEnv, EnvTraits, NDArray
from ppo2.envs.host.replay import State, generator_state, restore_generator

SIDE = 84
"""Width and height of observations, in pixels."""
MAX_FRAMES = 108_000
"""Frames after which an episode is cut: half an hour of play (Mnih et al. 2015; Baselines forgot it)."""


class AtariTreatment(gym.Wrapper[NDArray, Any, Any, Any]):
    """Baselines' `make_atari` and `wrap_deepmind` in one, with frames stacked along the last axis.

    - a game begins with 1 to `noops` frames of no-ops, and with FIRE where that starts it
    - an action holds for `frame_skip` frames; the brighter pixels of the last two are seen, grey, 84 x 84
    - each of these frames repeats the move before instead with probability `sticky`: drawn here, as the emulator, which
      has such an option too, doesn't save what it would repeat
    - the loss of a life ends an episode; only the game's end resets it
    - rewards become their signs; `info["episode"]` has the game's own return, and its length in steps

    Source: Mnih et al. 2015, Methods; OpenAI Baselines, common/atari_wrappers.py.

    Args:
        env: ale-py's environment, with frameskip 1.
        stack: frames of an observation, (84, 84, stack) of bytes, the newest last, before the first of them zeros.
        clip_rewards, life_loss_ends: see above.
    """

    def __init__(
        self,
        env: AnyEnv,
        *,
        noops: int = 30,
        frame_skip: int = 4,
        sticky: float = 0.0,
        stack: int = 4,
        clip_rewards: bool = True,
        life_loss_ends: bool = True,
        reward_scale: float = 1.0,
    ) -> None:
        super().__init__(env)
        import cv2  # comes with the extra

        self._resize, self._area = cv2.resize, cv2.INTER_AREA
        game: Any = env.unwrapped
        self._ale, self._moves = game.ale, list(game._action_set)
        meanings = game.get_action_meanings()
        self._fires = len(meanings) >= 3 and meanings[1] == "FIRE"
        self._noops, self._skip, self._sticky = noops, frame_skip, sticky
        frames = (env.spec.kwargs if env.spec is not None else {}).get("max_num_frames_per_episode", MAX_FRAMES)
        self.max_episode_steps = -(-int(frames) // frame_skip)
        self._move = self._moves[0]
        self._clip, self._life_loss_ends, self._scale = clip_rewards, life_loss_ends, reward_scale
        height, width = self._ale.getScreenDims()
        self._last, self._before = np.zeros((2, height, width), np.uint8)
        self._frames = np.zeros((SIDE, SIDE, stack), np.uint8)
        # The four bytes of a pixel as one number, whose shift makes room for a frame in a fifth of the time.
        self._packed = self._frames.view("<u4")[:, :, 0] if stack == 4 else None
        self.observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, stack), np.uint8)
        self._over = True
        self._lives = 0
        self._return, self._length = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode: in the same game after the loss of a life, unless there is a seed."""
        moves = [1, 2] if self._fires else []
        if self._over or seed is not None:
            self._begin_game(seed, options)
        else:
            moves.insert(0, 0)
        for move in moves:
            self._play(move)
            if self._ale.game_over():
                self._begin_game(None, options)
        self._lives = self._ale.lives()
        self._frames[:] = 0
        self._frames[:, :, -1] = self._seen()
        return self._frames.copy(), {}

    def _begin_game(self, seed: int | None, options: dict[str, Any] | None) -> None:
        self.env.reset(seed=seed, options=options)
        self._over, self._return, self._length = False, 0.0, 0
        self._move = self._moves[0]
        if self._noops:
            for _ in range(int(self.env.unwrapped.np_random.integers(1, self._noops + 1))):
                self._frame(self._moves[0])
                if self._ale.game_over():
                    self._ale.reset_game()
        self._ale.getScreenGrayscale(self._last)
        self._before[:] = 0

    def _frame(self, move: Any) -> float:
        if not self._sticky or self.env.unwrapped.np_random.random() >= self._sticky:
            self._move = move
        return float(self._ale.act(self._move))

    def _play(self, action: int) -> float:
        """Plays the frames of one action; returns the game's own reward."""
        ale, move, reward = self._ale, self._moves[action], 0.0
        for frame in range(self._skip):
            reward += self._frame(move)
            if ale.game_over():
                break
            if frame == self._skip - 2:
                ale.getScreenGrayscale(self._before)
            elif frame == self._skip - 1:
                ale.getScreenGrayscale(self._last)
        self._over = ale.game_over()
        self._return += reward
        return reward

    def _seen(self) -> NDArray:
        if self._skip > 1:
            np.maximum(self._last, self._before, out=self._last)
        seen: NDArray = self._resize(self._last, (SIDE, SIDE), interpolation=self._area)
        return seen

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self._play(int(action))
        self._length += 1
        if self._packed is None:
            self._frames[:, :, :-1] = self._frames[:, :, 1:]
        else:
            self._packed >>= 8
        self._frames[:, :, -1] = self._seen()
        lives = self._ale.lives()
        lost, self._lives = lives < self._lives, lives
        info: dict[str, Any] = {"lives": lives}
        truncated = False
        if self._over:
            truncated = bool(self._ale.game_truncated())
            info["episode"] = {"r": self._return, "l": self._length}
        terminated = (self._over and not truncated) or (lost and self._life_loss_ends and not self._over)
        if self._clip:
            reward = float(np.sign(reward))
        return self._frames.copy(), reward * self._scale, terminated, truncated, info

    def save_state(self) -> State:
        """State of the game, the emulator's random numbers included, and of this wrapper."""
        return {
            "emulator": np.frombuffer(self._ale.cloneState(include_rng=True).serialize(), np.uint8),
            "noops": generator_state(self.env.unwrapped.np_random),
            "frames": self._frames.copy(),
            "screens": np.stack([self._last, self._before]),
            "lives": np.array(self._lives),
            "move": np.array(self._moves.index(self._move)),
            "over": np.array(self._over),
            "episode": np.array([self._return, self._length], np.float64),
        }

    def load_state(self, state: State) -> NDArray:
        """Inverse of `save_state`; returns the observation."""
        import ale_py

        self._ale.restoreState(ale_py.ALEState(state["emulator"].tobytes()))
        restore_generator(self.env.unwrapped.np_random, state["noops"])
        self._frames[:] = state["frames"]
        self._last[:], self._before[:] = state["screens"]
        self._lives, self._over = int(state["lives"]), bool(state["over"])
        self._move = self._moves[int(state["move"])]
        self._return, self._length = float(state["episode"][0]), int(state["episode"][1])
        return self._frames.copy()


@dataclass(frozen=True)
class AtariFactory(EnvTraits):
    """Makes games of ale-py with `AtariTreatment`.

    Seeding the emulator takes 80 ms, so that only the first episode is seeded; the others draw on.

    Attributes:
        spec: a spec of "ALE/...-v5", "...NoFrameskip-v4" or any other of ale-py's, which says how sticky actions are.
        kwargs: for the game's constructor, or `AtariTreatment`'s arguments; `sticky_actions` is the probability that
            a frame repeats the move before (True: 0.25, Machado et al. 2018), `full_action_space` takes all 18 moves.
        options: see `Options`.
    """

    spec: EnvSpec
    kwargs: Mapping[str, Any]
    options: Options
    reseeds = False
    counts_episodes = True

    def with_kwargs(self, **kwargs: Any) -> "AtariFactory":
        """See `SpecFactory`."""
        return dataclasses.replace(self, kwargs={**self.kwargs, **kwargs})

    def __call__(self) -> AnyEnv:
        own = dict(self.kwargs)
        options = ("noops", "frame_skip", "clip_rewards", "life_loss_ends")
        treatment: dict[str, Any] = {name: own.pop(name) for name in options if name in own}
        emulators = own.pop("repeat_action_probability", self.spec.kwargs.get("repeat_action_probability", 0.25))
        sticky = own.pop("sticky_actions", emulators)
        treatment["sticky"] = 0.25 if sticky is True else float(sticky)
        own["repeat_action_probability"] = 0.0
        limit = self.options.max_episode_steps
        frames = MAX_FRAMES if limit is None else limit * treatment.get("frame_skip", 4)
        spec = dataclasses.replace(self.spec, order_enforce=False, max_episode_steps=None, disable_env_checker=True)
        import ale_py  # comes with the extra

        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
        with warnings.catch_warnings(action="ignore"):  # an older version is the user's choice
            env = gym.make(spec, frameskip=1, obs_type="grayscale", max_num_frames_per_episode=frames, **own)
        treatment |= {"stack": self.options.frame_stack or 4, "reward_scale": self.options.reward_scale}
        treated = AtariTreatment(env, **treatment)
        return gym.wrappers.FlattenObservation(treated) if self.options.flatten else treated
