"""Environments of one process, stepped one after another; without JAX, for the workers."""

import math
import traceback
from collections.abc import Callable, Iterable, MutableSequence, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from ppo2 import spaces
from ppo2.envs.host.failures import MOST, ContractError, EnvironmentFailureError, Failure
from ppo2.envs.host.replay import Midway, State, Unreachable, keeper_of, replay, state_of

AnyEnv = gym.Env[Any, Any]
AnyVectorEnv = gym.vector.VectorEnv[Any, Any, Any]
NDArray = np.ndarray[Any, Any]
Factory = Callable[[], AnyEnv]
Place = MutableSequence[int] | NDArray

UNSEEDED = -1
NEVER = float("inf")
NO_EPISODE = {"r": float("nan"), "l": float("nan")}
FAILURE = (Exception, SystemExit)
"""What an environment may raise and be made anew for; an interrupt is the user's."""


class Board(NamedTuple):
    """What goes in and out of n environments, each field's first axis; in memory that processes may share.

    | field | shape | meaning |
    |---|---|---|
    | actions, obs, final_obs | (n, ...) for each leaf | `final_obs` only where an episode has just ended |
    | rewards, terminated, truncated | (n,) | as the environments gave them |
    | failed | (n,) | the step raised: it is no experience, and its environment began anew |
    | returns, lengths | (n,) | `info["episode"]`, of environments that count episodes themselves; NaN: none ended |
    | infos | (n, k) | the numbers in `info` that were asked for; NaN where there is none |
    | seeds | (n,) | each environment's, from which every episode's is made; UNSEEDED: none |
    | episodes | (n,) | which episode of that seed is running, from 0 |
    """

    actions: list[NDArray]
    obs: list[NDArray]
    final_obs: list[NDArray]
    rewards: NDArray
    terminated: NDArray
    truncated: NDArray
    failed: NDArray
    returns: NDArray
    lengths: NDArray
    infos: NDArray
    seeds: NDArray
    episodes: NDArray

    def rows(self, of: slice) -> "Board":
        """The same for some of the environments."""
        fields: Any = ([leaf[of] for leaf in field] if isinstance(field, list) else field[of] for field in self)
        return Board(*fields)


class Field(NamedTuple):
    """Shape and dtype of an array of a board."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def fields(
    observation_space: spaces.AnySpace, action_space: spaces.AnySpace, count: int, infos: int
) -> list[list[Field] | Field]:
    """What a board is made of, for `count` environments."""

    def leaves(space: spaces.AnySpace) -> list[Field]:
        parts = spaces.leaves(space, spaces.tree(space))
        return [Field((count, *(part.shape or ())), np.dtype(part.dtype)) for part in parts]

    obs = leaves(observation_space)
    flag, number, whole = (Field((count,), np.dtype(kind)) for kind in (bool, np.float64, np.int64))
    numbers = Field((count, infos), np.dtype(np.float64))
    return [leaves(action_space), obs, obs, number, flag, flag, flag, number, number, numbers, whole, whole]


def episode_seed(seed: int, episode: int) -> int:
    """31 bits for an episode of an environment with a seed of its own: episode 0 has that very one.

    The finaliser of SplitMix64 (Steele et al. 2014), so that neighbours have nothing in common.
    """
    if episode == 0:
        return seed
    mixed = (seed + episode * 0x9E3779B97F4A7C15) & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) & (2**31 - 1)


class Recipe:
    """A factory that says more of its environments; others are taken to say this.

    Attributes:
        max_episode_steps: after so many steps an episode is cut, as Gymnasium's TimeLimit would, which costs more.
        reseeds: whether every episode can begin with a seed; else only the first does.
        counts_episodes: whether `info["episode"]` alone tells of episodes that ended; others end for training's sake.
    """

    max_episode_steps: int | None = None
    reseeds: bool = True
    counts_episodes: bool = False

    def take_after(self, other: Factory) -> None:
        """Says what another one says."""
        recipe = recipe_of(other)
        self.max_episode_steps, self.reseeds = recipe.max_episode_steps, recipe.reseeds
        self.counts_episodes = recipe.counts_episodes


def recipe_of(factory: Any) -> Recipe:
    return factory if isinstance(factory, Recipe) else Recipe()


class Group:
    """Environments whose observations and outcomes are written into a board.

    Every episode is reset with a seed of its own, so that what an environment does is told by its first seed and its
    actions alone. An environment that raises is made and reset anew; that step failed.

    Args:
        factories: each makes one environment; see `Recipe`.
        first: the index of the first, for messages.
        info_keys: entries of `info` that are numbers, to be written to the board.
        owned: whether the environments are ours: one that raised is made anew, and all are closed in the end. Else it
            is only reset.

    Raises:
        ValueError: environments of different spaces.
        TypeError: a space that isn't supported.
    """

    def __init__(
        self, factories: Sequence[Factory], *, first: int = 0, info_keys: Sequence[str] = (), owned: bool = True
    ) -> None:
        self.envs: list[AnyEnv] = []
        self.failures: list[Failure] = []
        self._factories, self._first, self._info_keys, self._owned = list(factories), first, tuple(info_keys), owned
        try:
            for factory in factories:
                self.envs.append(factory())
            self.observation_space = self.envs[0].observation_space
            self.action_space = self.envs[0].action_space
            spaces.check_observation_space(self.observation_space)
            for i, env in enumerate(self.envs):
                self.check_alike(i, env)
        except BaseException:
            self.close()
            raise
        space = self.observation_space
        self._composite = isinstance(space, spaces.COMPOSITE)
        self._shape, self._dtype = space.shape or (), space.dtype
        recipes = [recipe_of(factory) for factory in factories]
        self._limits = [recipe.max_episode_steps for recipe in recipes]
        self._reseeds, self._counts = recipes[0].reseeds, recipes[0].counts_episodes
        self._deadlines: list[float] = [NEVER] * len(self.envs)
        self._clock = 0

    def check_alike(self, i: int, env: AnyEnv) -> None:
        """Raises ValueError if an environment has other spaces than the first."""
        for name in ("observation_space", "action_space"):
            if getattr(env, name) != getattr(self, name):
                raise ValueError(
                    f"`env`: its environments differ in {name}: number {self._first} has {getattr(self, name)}, number "
                    f"{self._first + i} {getattr(env, name)}. All must be alike."
                )

    def attach(self, board: Board) -> None:
        """From now on reads and writes `board`, of as many rows as there are environments."""
        self._board = board
        self._single = None if self._composite else board.obs[0]

    def reset(self, options: dict[str, Any] | None = None, at: Place | None = None) -> None:
        """Resets all, with the seeds on the board; what they raise is the caller's. `at`: as for `step`."""
        self.failures = []
        self._board.episodes[:] = 0
        for i in range(len(self.envs)):
            if at is not None:
                at[0] = self._first + i
            obs, _ = self._begin(i, self._seed(i), options)
            self._put(self._board.obs, i, self._checked(obs, i, "the first observation of"))

    def save(self, _: None = None, at: Place | None = None) -> list[State | None]:
        """What those environments save of themselves that can. `at`: as for `step`."""
        saved: list[State | None] = []
        for i, env in enumerate(self.envs):
            if at is not None:
                at[0] = self._first + i
            saved.append(state_of(env))
        return saved

    def resume(self, midways: Sequence[Midway], at: Place | None = None) -> dict[int, str]:
        """Brings all to where the board says that they were: seeds, episodes, and the observations to go on from.

        An environment that doesn't come there begins its next episode instead.

        Args:
            midways: for each environment.
            at: as for `step`.

        Returns:
            Why, of those that didn't.
        """
        self.failures = []
        why: dict[int, str] = {}
        for i, midway in enumerate(midways):
            if at is not None:
                at[0] = self._first + i
            try:
                self._bring(i, midway)
            except Unreachable as unreachable:
                why[self._first + i] = str(unreachable)
            except FAILURE as error:
                why[self._first + i] = f"it raised {type(error).__name__}: {error}"
                if self._owned:
                    self._close(i)
                    self.envs[i] = self._factories[i]()
            else:
                continue
            obs, _ = self._begin(i, self._next_seed(i))
            self._put(self._board.obs, i, self._checked(obs, i, "the first observation of"))
        return why

    def _bring(self, i: int, midway: Midway) -> None:
        """Raises Unreachable where an environment doesn't come to where it was."""
        env, board = self.envs[i], self._board
        if midway.state is not None:
            keeper = keeper_of(env)
            if keeper is None:
                raise Unreachable("it can't take up the state that it saved")
            keeper.load_state(midway.state)
            self._limit(i, midway.steps)
            return
        if midway.actions is None:
            raise Unreachable("its episode had become too long for its actions to be kept (`replay_limit`)")
        if board.episodes[i] and not self._reseeds:
            raise Unreachable("its episodes have no seeds of their own")
        obs, returns = replay(
            env,
            lambda: self._begin(i, self._seed(i))[0],
            midway.actions,
            lambda batch: one_by_one(self.action_space, batch),
        )
        self._limit(i, midway.steps)
        found = spaces.leaves(self.observation_space, self._checked(obs, i, "an observation of"))
        differs = any(np.asarray(x).tobytes() != leaf[i].tobytes() for leaf, x in zip(board.obs, found, strict=True))
        if differs or not (self._counts or math.isclose(returns, midway.returns, rel_tol=1e-5, abs_tol=1e-5)):
            raise Unreachable("it isn't deterministic: the same seed and actions led it elsewhere")

    def step(self, actions: Iterable[Any], at: Place | None = None) -> bool:
        """One action for each; whether an episode ended.

        Args:
            at: where to say, in its first number, which environment's turn it is.
        """
        board, shape, dtype, single, deadlines = self._board, self._shape, self._dtype, self._single, self._deadlines
        self._clock = clock = self._clock + 1
        # lists, written to the board at once: to write an array number by number costs more
        rewards, terminated, truncated = [], [], []
        first, ended = self._first, False
        if self.failures:
            self.failures = []
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            if at is not None:
                at[0] = first + i
            try:
                obs, reward, over, cut, info = env.step(action)
            except ContractError:
                raise
            except FAILURE:
                obs, reward, over, cut, info = None, 0.0, False, True, {}
                ended = True
                self._begin_anew(i)
            if clock >= deadlines[i]:
                cut = True
            rewards.append(reward)
            terminated.append(over)
            truncated.append(cut)
            if self._info_keys:
                board.infos[i] = [_number(info.get(key)) for key in self._info_keys]
            if obs is None:
                continue
            if over or cut:
                ended = True
                self._put(board.final_obs, i, self._checked(obs, i, "an observation of"))
                if self._counts:
                    episode = info.get("episode", NO_EPISODE)
                    board.returns[i], board.lengths[i] = episode["r"], episode["l"]
                try:
                    obs, _ = self._begin(i, self._next_seed(i))
                except ContractError:
                    raise
                except FAILURE:
                    rewards[i], terminated[i], truncated[i] = 0.0, False, True
                    self._begin_anew(i)
                    continue
            if single is None:
                self._put(board.obs, i, self._checked(obs, i, "an observation of"))
            elif type(obs) is np.ndarray and obs.shape == shape and obs.dtype == dtype:
                single[i] = obs
            else:
                single[i] = self._checked(obs, i, "an observation of")
        self._write(board.rewards, rewards, "reward")
        self._write(board.terminated, terminated, "terminated")
        self._write(board.truncated, truncated, "truncated")
        return ended

    def _write(self, row: NDArray, given: list[Any], what: str) -> None:
        try:
            row[:] = given
        except (TypeError, ValueError) as error:
            wrong = next((i for i, one in enumerate(given) if np.ndim(one) or not np.isreal(one)), 0)
            raise ValueError(
                f"`env` gave {what} = {given[wrong]!r} in environment {self._first + wrong}; it must be one number."
            ) from error

    def _begin(self, i: int, seed: int | None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._limit(i)
        return self.envs[i].reset(seed=seed, options=options)

    def _limit(self, i: int, steps: int = 0) -> None:
        """Sets the time limit of an episode so many steps old."""
        limit = self._limits[i]
        self._deadlines[i] = NEVER if limit is None else self._clock + limit - steps

    def _begin_anew(self, i: int) -> None:
        """Notes what environment i raised, and makes it again; what it raises then is noted as well.

        Raises:
            EnvironmentFailureError: it can't be made again.
        """
        board = self._board
        board.failed[i], board.returns[i], board.lengths[i] = True, np.nan, np.nan
        text = traceback.format_exc()
        for _ in range(MOST):
            self.failures.append(Failure(self._first + i, text))
            try:
                if self._owned:
                    self._close(i)
                    self.envs[i] = self._factories[i]()
                    self.check_alike(i, self.envs[i])
                obs, _ = self._begin(i, self._next_seed(i, anew=True))
            except FAILURE:
                text = traceback.format_exc()
                continue
            obs = self._checked(obs, i, "the first observation of")
            for rows in (board.obs, board.final_obs):
                self._put(rows, i, obs)
            return
        raise EnvironmentFailureError(
            f"environment {self._first + i} failed, and could not be made again {MOST} times. Mend it; its last "
            f"words:\n{text}"
        )

    def _next_seed(self, i: int, *, anew: bool = False) -> int | None:
        self._board.episodes[i] += 1
        return self._seed(i) if self._reseeds or anew else None

    def _seed(self, i: int) -> int | None:
        """Of the running episode."""
        seed = int(self._board.seeds[i])
        return None if seed == UNSEEDED else episode_seed(seed, int(self._board.episodes[i]))

    def _put(self, rows: list[NDArray], i: int, obs: Any) -> None:
        for leaf, part in zip(rows, spaces.leaves(self.observation_space, obs), strict=True):
            leaf[i] = part

    def _checked(self, obs: Any, i: int, what: str) -> Any:
        what = f"{what} environment {self._first + i}"
        if not self._composite and type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype == self._dtype:
            return obs
        batch, is_one = spaces.observation(self.observation_space, obs, what)
        if not is_one:
            raise ValueError(
                f"{what} has the shape {np.shape(obs)}, but `env` declares {self.observation_space}. Mend its "
                "observation_space, or what it returns."
            )
        return spaces.mapped(lambda _, x: x[0], self.observation_space, batch)

    def _close(self, i: int) -> None:
        if not self._owned:
            return
        try:
            self.envs[i].close()
        except Exception:
            traceback.print_exc()

    def close(self) -> None:
        for i in range(len(self.envs)):
            self._close(i)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def separate(space: spaces.AnySpace, board: Board) -> Any:
    """The actions of a board, to be taken one by one."""
    rows = (leaf.copy() for leaf in board.actions)  # an environment may keep the last one
    actions = spaces.mapped(lambda _: next(rows), space)
    return one_by_one(space, actions)


def one_by_one(space: spaces.AnySpace, actions: Any) -> Iterable[Any]:
    """A batch of actions, taken apart."""
    if isinstance(actions, list):
        return actions
    # Many environments assert that an action is in their space, which is answered fastest of Python's integers for
    # those that `FromSpec` makes (Gymnasium 1.4's own Discrete answers a little faster of NumPy's).
    if isinstance(space, gym.spaces.Discrete):
        integers: list[int] = np.asarray(actions).tolist()
        return integers
    apart: Iterable[Any] = spaces.separate(space, actions)
    return apart
