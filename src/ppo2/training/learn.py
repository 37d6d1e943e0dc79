"""`learn`: the whole of training."""

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ppo2.agent.model import Model
from ppo2.algorithm.faults import Fault
from ppo2.algorithm.train_state import UpdateStats
from ppo2.config import Config
from ppo2.distributed import collectives, heartbeat, processes
from ppo2.numerics.schedules import ScheduleLike
from ppo2.runners.device import DeviceRunner
from ppo2.system.signals import StopSignals, raise_for
from ppo2.training.plan import batch_plan
from ppo2.training.run import Run, open_run
from ppo2.training.setup import SETTINGS, Prepared, Schedules, check_callable, prepare


def learn(
    *,
    network: Any = "mlp",
    env: Any,
    total_timesteps: float = 1e6,
    eval_env: Any = None,
    seed: int | None = None,
    nsteps: int = 2048,
    ent_coef: float = 0.0,
    lr: ScheduleLike = 3e-4,
    vf_coef: float = 0.5,
    max_grad_norm: float | None = 0.5,
    gamma: float = 0.99,
    lam: float = 0.95,
    log_interval: int = 10,
    nminibatches: int = 4,
    noptepochs: int = 4,
    cliprange: ScheduleLike = 0.2,
    save_interval: int = 0,
    load_path: str | os.PathLike[str] | None = None,
    model_fn: Callable[..., Model] | None = None,
    update_fn: Callable[..., Any] | None = None,
    init_fn: Callable[[], Any] | None = None,
    value_network: Any = None,
    encoders: Mapping[str, Any] | None = None,
    num_envs: int | None = None,
    normalize_obs: bool = False,
    normalize_rewards: bool = False,
    value_cliprange: ScheduleLike | None = "same",
    action_dist: Literal["gaussian", "squashed_gaussian"] = "gaussian",
    target_kl: float | None = None,
    bootstrap_truncated: bool = True,
    eval_interval: int | None = None,
    eval_episodes: int = 10,
    shards: int | None = None,
    devices: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    keep: int | None = None,
    on_nonfinite: Literal["raise", "skip"] = "raise",
    progress: bool = False,
    **network_kwargs: Any,
) -> Model:
    """Trains a policy with Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347) and returns it.

    Schedules are numbers, text ("linear:3e-4", "cosine:3e-4", "constant:3e-4") or functions of `frac`, which goes from
    1 at the first update towards 0: frac = 1 - (update - 1) / nupdates. They are evaluated once an update.

    Args:
        network: the policy's network: a registered name (`ppo2 networks` lists them), a builder, or a network: an
            equinox.Module that maps one observation to a vector of features, or a Flax module (Linen or NNX) or a
            Keras 3 model on JAX that does so for a batch.
        env: what to train on: an environment id, a gymnasium.Env, a gymnasium.vector.VectorEnv, or a function
            without arguments that makes an environment; or an environment in JAX, which trains without leaving the
            device: a ppo2.envs.DeviceEnv, or an id such as "gymnax:CartPole-v1". What ppo2.make gives with
            backend="ray" is held by other processes, on other machines if you like.
        total_timesteps: steps to take, over all environments; cut to whole updates of num_envs * nsteps. 0 returns
            the untrained (or loaded) model.
        eval_env: an environment, in any form that `env` takes, to evaluate on at intervals with frozen statistics.
        seed: of everything random; the same seed gives the same bits. None draws one and reports it.
        nsteps: steps of each environment between two updates; the batch is num_envs * nsteps.
        ent_coef: weight of the entropy bonus; usually 0 to 0.02.
        lr: learning rate of Adam, a schedule; usually 1e-4 to 1e-3.
        vf_coef: weight of the value loss.
        max_grad_norm: the gradient's largest norm; None leaves it as it is.
        gamma: discount per step.
        lam: lambda of generalised advantage estimation: 0 trusts the value function, 1 the rewards seen.
        log_interval: updates between two rows of the log; the first update is logged too.
        nminibatches: number of minibatches that each epoch cuts the batch into.
        noptepochs: passes over the batch in each update, shuffled anew each time.
        cliprange: how far from 1 the probability ratio pays off, a schedule; usually 0.1 to 0.3.
        save_interval: updates between two checkpoints, the first update's one included; 0 writes only the final one.
        load_path: a checkpoint, or a run directory (its newest one), to take weights, optimiser and normaliser from;
            training then starts at its first update. With run_dir the same directory, or the one that the checkpoint
            is in, and the same arguments, the run in it goes on instead, to its original total; from its first update
            if it was stopped before its first checkpoint. Later checkpoints are set aside.
        model_fn: makes the model: model_fn(policy=..., config=..., key=...), such as a subclass of ppo2.Model.
        update_fn: called after each update as update_fn(update[, model[, stats]]), with as many as it takes; returning
            False stops training after a checkpoint.
        init_fn: called once, before the first update.
        value_network: None or "shared": the value is a second head on the network; "copy": it has a network of its own
            of the same kind; or another network, in any form that `network` takes.
        encoders: for observations of several parts (Dict, Tuple), what encodes a part before `network` sees them all
            side by side, by its path: {"camera": "cnn_small", "arm/angles": "mlp"}, in any form that `network` takes.
            Others are flattened, images encoded by cnn, or cnn_small where they are small.
        num_envs: how many environments, when `env` is an id, a function or a device environment; None is 8. Of
            several processes (`ppo2.distributed`) each steps an equal part of them; None is then 8 or a few more.
        normalize_obs: bring observations to mean 0 and standard deviation 1, by running statistics.
        normalize_rewards: divide rewards by the running standard deviation of discounted returns.
        value_cliprange: how far the value may move in an update: "same" as cliprange, a schedule, or None for any.
        action_dist: how a Box's actions are distributed: "gaussian", clipped to the bounds, with standard deviations
            learned beside the network; or "squashed_gaussian", through tanh to between the bounds, which must be
            finite, with standard deviations that the network gives.
        target_kl: once a minibatch's mean approximate KL divergence exceeds it, the rest of the update is skipped;
            usually 0.01 to 0.05. None never skips.
        bootstrap_truncated: count the value of the last observation where an episode was cut short by a time limit;
            False takes that for a true end, as the original does.
        eval_interval: updates between two evaluations; None: as log_interval.
        eval_episodes: episodes in each evaluation.
        shards: blocks of environments that are shuffled apart; must divide num_envs. With device environments, as many
            devices as divide them share the work. None: the devices that there are, where each gets 32 environments,
            for device environments; else 1. Times the number of processes, where there are several.
        devices: of this machine that device environments may be spread over; None: all that JAX has.
        run_dir: directory for logs, checkpoints and the learning curve; None writes nothing.
        keep: how many of the last checkpoints to keep; with eval_env, each evaluation that is the best so far is saved
            too, and the best one stays beside them. None keeps all.
        on_nonfinite: what to do when an observation, action, reward, loss, gradient or the optimiser's step is NaN or
            infinite: "raise" an error, or "skip" that update.
        progress: show progress: a live table on a terminal, plain lines elsewhere.
        **network_kwargs: for the network's builder; for mlp num_layers=2, num_hidden=64, activation="tanh",
            layer_norm=False.

    Returns:
        The trained model; `step`, `predict`, `value` and `save` it, or `ppo2.evaluate` it.

    Raises:
        ValueError, TypeError: an argument that can't be, before the first step of an environment; it says which and
            why. ValueError also where training meets numbers that are not finite and `on_nonfinite` is "raise".
        ppo2.envs.EnvironmentFailureError: environments failed more than three times in 60 seconds; what was learned
            before is saved (of several processes: what the last checkpoint has).
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; the update was finished and a checkpoint written (before
            the first update: at once, and nothing is written). A second signal stops at once. In other threads than the
            main one signals are not heard: return False from `update_fn` there.

    Of several processes (`ppo2.distributed`), an error in one ends all, with status 75; what all raise alike is raised.
    """
    # locals() before anything else is bound: exactly the arguments
    given = {name: value for name, value in locals().items() if name in SETTINGS}
    with contextlib.ExitStack() as stack, processes.errors_end_all():
        stop = stack.enter_context(StopSignals(patient=False))  # until there is something to lose
        processes.warn_if_alone()
        check_callable(model_fn=model_fn, update_fn=update_fn, init_fn=init_fn)
        stack.callback(heartbeat.expect_pauses)
        it = prepare(stack, given, eval_env=eval_env, load_path=load_path, run_dir=run_dir)
        run = stack.enter_context(
            open_run(
                it.config,
                it.model,
                run_dir=run_dir,
                before=it.before,
                again=it.again,
                progress=progress,
                engine=it.runner.engine,
            )
        )
        run.attach(it.runner, it.before)
        if it.saved is not None and it.before is None:
            run.save(0)  # where this run comes from, for it to begin again wherever it is stopped
        warm_up = it.warm_up_steps
        run.logger.say(batch_plan(it.config, it.model, first=run.first, warm_up_steps=warm_up, engine=it.stepped_by))
        stop.patient |= run.world.size > 1  # all stop together, or not at all
        if init_fn is not None:
            init_fn()
        run.agree("when training began")
        if warm_up:
            run.check_fault(0, it.model.observe(it.runner.run(warm_up), it.runner.axis))
            it.runner.settle()
        update = _train(it, run, stop, update_fn)
        run.finish(update, stop)
        received = run.heard(stop)
        if received is not None:
            raise_for(received)
    return it.model


def _train(it: Prepared, run: Run, stop: StopSignals, update_fn: Callable[..., Any] | None) -> int:
    """All updates that are to come: a rollout, learning from it, and what is due after it. Gives the last one."""
    config, model, runner = it.config, it.model, it.runner
    schedule = Schedules(config)
    calls = any(collectives.all_gather(update_fn is not None))  # some may only be called in one process
    if calls and isinstance(runner, DeviceRunner):
        runner.one_by_one()
    update = run.first - 1
    while update < config.nupdates:
        if isinstance(runner, DeviceRunner):
            most = collectives.broadcast(runner.most_updates())
            count = min(_next_look(update, config, it.eval_env is not None) - update, most)
            hypers = [model.hyperparameters(**schedule.at(update + 1 + i)) for i in range(count)]
            with stop.deferred():  # the model and what is told of it go on together
                chunk = runner.iterate(hypers)
                first, update, stats = update + 1, update + int(chunk.done), chunk.stats
                if chunk.halted:
                    run.count(update - 1, runner, stop)
                run.check_fault(first + int(chunk.faulty), chunk.fault)
                run.count(update, runner, stop)
        else:
            update += 1
            rollout = runner.run()
            with stop.deferred():
                stats = model.train(rollout, **schedule.at(update))
                run.check_fault(update, Fault(stats.fault, stats.fault_index))
                run.count(update, runner, stop)
        stop.patient = True
        heartbeat.expect_progress()  # all is compiled
        if it.eval_env is not None and _due(update, config.eval_interval or config.log_interval):
            with heartbeat.allow_pause():
                run.evaluate(it.eval_env, stop)
        with stop.deferred():
            if run.has_evaluation or _due(update, config.log_interval):
                run.log(update, stats, schedule.at(update))
            if _due(update, config.save_interval) or run.is_best:
                run.save(update)
        if calls and _is_enough(update_fn, update, model, run.complete(stats)):
            run.logger.say(f"stopped by update_fn at update {update:,} of {config.nupdates:,}")
            break
        if run.heard(stop) is not None:
            break
    return update


def _due(update: int, interval: int) -> bool:
    """At every `interval` updates and, as in Baselines, at the first; never for an interval of 0."""
    return bool(interval) and (update == 1 or update % interval == 0)


def _is_enough(update_fn: Callable[..., Any] | None, update: int, model: Model, stats: UpdateStats) -> bool:
    """Whether the user's function, in any of the processes, wants no more."""
    with heartbeat.allow_pause():
        enough = update_fn is not None and _call(update_fn, update, model, stats) is False
    return any(collectives.all_gather(enough))


def _next_look(update: int, config: Config, evaluates: bool) -> int:
    """The next update after which there is something to log, evaluate or save, or the last of all."""
    intervals = [config.log_interval, config.save_interval]
    if evaluates:
        intervals.append(config.eval_interval or config.log_interval)
    if update == 0:
        return 1
    following = [(update // interval + 1) * interval for interval in intervals if interval]
    return min(*following, config.nupdates)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls with as many of the arguments as the function takes by position."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function(*arguments)
    taken = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return function(*arguments[:taken])
