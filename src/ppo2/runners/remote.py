"""Collecting rollouts from environments of Ray's actors: each has a copy of the policy, and returns whole rollouts.

No step goes over the network, only rollouts: every actor has a `Runner` over its part of the environments, which keep
their global indices, and so do what they would do here.
"""

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from ppo2.agent.copies import template_of, weights_of
from ppo2.agent.model import Model
from ppo2.agent.pickling import packed
from ppo2.algorithm.rollout import ROLLOUT_SPECS, Rollout
from ppo2.checkpoints.checkpoint import Checkpoint
from ppo2.envs.host import registrations
from ppo2.envs.host.failures import WINDOW_SECONDS, EnvironmentFailureError, FailureWindow
from ppo2.envs.host.remote import RemoteEnvs
from ppo2.numerics.compilation import Aside
from ppo2.numerics.sharding import BY_ENV, BY_STEP, ONE_DEVICE
from ppo2.runners import ray_cluster
from ppo2.runners.episodes import Ended, EpisodeQueue, side_by_side
from ppo2.runners.protocol import Seconds
from ppo2.runners.ray_actor import ActorLocation, RolloutActor, RolloutPart
from ppo2.runners.snapshot import Snapshot, facts_of, join_snapshots, layout_changes, part_of
from ppo2.system.text import printable, say_error, say_kept

START_SECONDS = 30.0
"""Seconds after which a line says that actors have not begun yet."""
CLOSE_SECONDS = 2.0
"""Seconds that environments get to close."""
AXES = {BY_STEP: 1, BY_ENV: 0}


class RemoteRunner:
    """The runner of environments that actors hold, which begin with the first rollout. For arguments see `Runner`.

    A lost actor (its process was killed, its machine is gone) is replaced: its part of the rollout is not valid, its
    running episodes end there and are not counted, and its environments begin new ones.

    Raises (`run`):
        EnvironmentFailureError: actors were lost more than three times within 60 seconds, where those that one machine
            loses in one rollout count as one; or what an environment raised.
        ValueError: the policy can't be sent to actors; or see `Runner`.
    """

    def __init__(self, *, env: RemoteEnvs, model: Model, nsteps: int, gamma: float, lam: float) -> None:
        self.envs, self.model, self.nsteps, self.nenvs = env, model, nsteps, env.num_envs
        self.axis = ONE_DEVICE
        self.info_keys = tuple(env.options.get("info_keys", ()))
        self._settings = {"nsteps": nsteps, "gamma": gamma, "lam": lam}
        self.rollouts = 0
        self.seconds = Seconds(act=0.0, step=0.0)
        self._ray: Any = None
        self._owns_ray = False
        self._actors: list[Any] = []
        self._begin: dict[int, Any] = {}  # pending answers of actors that haven't begun yet
        self._locations: dict[int, ActorLocation] = {}
        self._losses = FailureWindow()
        self._episodes = EpisodeQueue()
        self._epoch = time.perf_counter()
        self._is_learned = False
        self._learned_rollouts: int | None = None

    @property
    def layout(self) -> dict[str, int]:
        return {"groups": 1, "actors": self.envs.actors}

    def prepare(self, aside: Aside) -> None:
        """See `HostRunner`: the actors have programs of their own."""

    def run(self, steps: int | None = None) -> Rollout:
        """See `Runner.run`; arrays of the host."""
        parts: list[RolloutPart] = []
        while not parts:  # again where all actors were lost, as there is nothing to learn from
            self._wait_for_all()
            began = time.perf_counter()
            weights = self._ray.put(weights_of(self.model))
            request = (weights, steps, self.rollouts, self._is_learned, began - self._epoch)
            answers = self._ask("run", [request] * self.envs.actors)
            self._is_learned = False
            self.rollouts += 1
            self._replace_lost(answers)
            parts = [answer for answer in answers if isinstance(answer, RolloutPart)]
            for part in parts:
                say_kept(part.told)
        self._episodes.extend(side_by_side([part.ended for part in parts]), self.nsteps)
        act = sum(part.seconds.act for part in parts) / len(parts)
        self.seconds = Seconds(act=act, step=time.perf_counter() - began - act)
        nothing = _nothing_like(parts[0].rollout)
        return _side_by_side([answer.rollout if isinstance(answer, RolloutPart) else nothing for answer in answers])

    def mark_learned(self) -> None:
        self._is_learned, self._learned_rollouts = True, self.rollouts

    def start_clock(self, seconds: float) -> None:
        self._epoch = seconds

    def ended(self) -> Ended:
        return self._episodes.take()

    def snapshot(self) -> Snapshot:
        rollouts = self.rollouts if self._learned_rollouts is None else self._learned_rollouts
        answers = self._ask("snapshot", [(self._is_learned,)] * self.envs.actors) if self._actors else []
        if not answers or not all(isinstance(answer, Snapshot) for answer in answers):
            return Snapshot({}, {"kind": "none"}, rollouts)
        whole = join_snapshots(answers)
        return Snapshot(whole.tensors, {**whole.facts, **self.layout}, rollouts)

    def resume(self, saved: Checkpoint) -> list[str]:
        if not self.rollouts:
            return []  # the run hadn't begun
        self._wait_for_all()
        facts, each, weights = facts_of(saved), self.envs.each, weights_of(self.model)
        run = {**saved.section("run"), "runner": {**facts, "actors": 1}}  # each actor has its environments alone
        whole = saved._replace(metadata={"run": run})
        parts = [part_of(whole, slice(i * each, (i + 1) * each), self.nenvs) for i in range(self.envs.actors)]
        answers = self._ask("resume", [(weights, self.rollouts, part) for part in parts])
        self._replace_lost(answers)
        self._learned_rollouts = self.rollouts
        words = [line for answer in answers if isinstance(answer, list) for line in answer]
        return list(dict.fromkeys([*layout_changes(facts, self.layout), *words]))

    def close(self) -> None:
        """Ends the actors, and Ray where it was started here."""
        if self._ray is None:
            return
        if self._ray.is_initialized():
            self._wait([self._actors[number].close.remote() for number in self._locations], CLOSE_SECONDS)
            for actor in self._actors:
                self._ray.kill(actor)
            if self._owns_ray:
                self._ray.shutdown()
        self._actors, self._begin, self._ray = [], {}, None
        self._locations.clear()

    # --- the actors -----------------------------------------------------------------------------------------------

    def _wait_for_all(self) -> None:
        """Returns when every actor has begun."""
        if not self._actors:
            self._ray, self._owns_ray = ray_cluster.connect(self.envs.actors * self._processors)
            self._actors = [self._start_actor(number) for number in range(self.envs.actors)]
        while self._begin:
            missing = self._wait([*self._begin.values()], START_SECONDS)
            if missing:
                there, free = (
                    self._ray.cluster_resources().get("CPU", 0.0),
                    self._ray.available_resources().get("CPU", 0.0),
                )
                say_error(
                    f"{len(missing)} of {self.envs.actors} actors have not begun after {START_SECONDS:.0f} s, and are "
                    f"waited for: each needs {self._processors} of the cluster's {there:g} processors, of which "
                    f"{free:g} are free."
                )
                self._wait(missing)
            begin, self._begin = self._begin, {}
            answers = [self._answer(begin[i], i) if i in begin else None for i in range(self.envs.actors)]
            self._locations |= {i: answer for i, answer in enumerate(answers) if isinstance(answer, ActorLocation)}
            self._replace_lost(answers)

    def _wait(self, refs: list[Any], seconds: float = math.inf) -> list[Any]:
        """Waits for answers, for so many seconds at most. Returns those that are missing."""
        until = time.monotonic() + seconds
        while refs and time.monotonic() < until:
            _, refs = self._ray.wait(refs, num_returns=len(refs), timeout=1.0)  # signals are handled in between
        return refs

    @property
    def _processors(self) -> int:
        """Processors that an actor needs."""
        return 1 + self.envs.workers

    def _start_actor(self, number: int) -> Any:
        """A new actor, which begins in the background.

        Raises:
            ValueError: the policy can't be sent to it.
        """
        how = {"num_cpus": self._processors, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        how["runtime_env"] = {"env_vars": ray_cluster.jax_variables()}
        try:
            pickled = packed((registrations.registered(), template_of(self.model)))
        except Exception as error:  # of whatever is asked to travel
            raise ValueError(f"the policy can't be sent to the actors: {error}") from error
        actor = self._ray.remote(**how)(RolloutActor).remote()
        self._begin[number] = actor.begin.remote(self.envs, pickled, number, self._settings)
        return actor

    def _ask(self, method: str, arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The answers of all actors, each to arguments of its own: see `_answer`."""
        refs = [getattr(actor, method).remote(*own) for actor, own in zip(self._actors, arguments, strict=True)]
        self._wait(refs)
        return [self._answer(ref, number) for number, ref in enumerate(refs)]

    def _answer(self, ref: Any, number: int) -> Any:
        """An actor's answer, or Ray's error if it was lost; raises what it raised."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            if not isinstance(cause, Exception) or isinstance(cause, errors.RayError):
                raise
            if number:
                cause.add_note(f"Of actor {number}, whose environments are {self._envs_of(number)} of all.")
            raise cause from error
        except (errors.RayActorError, errors.ObjectLostError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            return error

    def _envs_of(self, number: int) -> str:
        first = number * self.envs.each
        return f"{first} to {first + self.envs.each - 1}"

    def _replace_lost(self, answers: Sequence[Any]) -> None:
        """Replaces the actors that were lost, by their answers.

        Raises:
            EnvironmentFailureError: it happens too often.
        """
        lost = {number: answer for number, answer in enumerate(answers) if isinstance(answer, Exception)}
        locations = {number: self._locations.pop(number, None) for number in lost}
        nodes = {None if location is None else location.node for location in locations.values()}
        exhausted = False
        for _ in nodes:
            exhausted = self._losses.add()
        for number, location in locations.items():
            where = "before it began" if location is None else f"on {location.host}"
            fate = "" if exhausted else " and is replaced: its episodes end there"
            say_error(f"actor {number} (environments {self._envs_of(number)}) was lost {where}{fate}.")
        if exhausted:
            words = printable(next(iter(lost.values())))
            raise EnvironmentFailureError(
                f"actors were lost {self._losses.total} times, {self._losses.recent} of them in the last "
                f"{WINDOW_SECONDS:.0f} seconds: look for what ends their processes (memory? machines?). Ray's words "
                f"of the last:\n{words}"
            )
        for number in lost:
            self._ray.kill(self._actors[number])  # where only what it returned was lost
            self._actors[number] = self._start_actor(number)


def _nothing_like(rollout: Rollout) -> Rollout:
    """A rollout of invalid steps, in which every episode ends."""
    nothing: Rollout = jax.tree.map(np.zeros_like, rollout)
    return nothing._replace(truncated=~nothing.truncated, gamma=rollout.gamma, lam=rollout.lam)


def _side_by_side(parts: list[Rollout]) -> Rollout:
    """The rollout of all environments."""

    def whole(name: str) -> Any:
        axis, values = AXES.get(getattr(ROLLOUT_SPECS, name)), [getattr(part, name) for part in parts]
        return values[0] if axis is None else jax.tree.map(lambda *leaves: np.concatenate(leaves, axis), *values)

    return Rollout(**{name: whole(name) for name in Rollout._fields})
