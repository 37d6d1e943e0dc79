"""`learn`: the whole of training."""

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ppo2 import distributed
from ppo2.agent import placement
from ppo2.agent.model import Model
from ppo2.callbacks.base import Callback
from ppo2.callbacks.calls import checked_callbacks
from ppo2.callbacks.video import with_films
from ppo2.config import ActionDist, Config, Device, Precision, check_settings, separate_settings, settings_help
from ppo2.config.secrets import check_none_would_be_saved
from ppo2.distributed import heartbeat, processes
from ppo2.distributed.agreed_signal import AgreedSignal
from ppo2.envs import DeviceVector
from ppo2.numerics.compilation import computing_on, transfers_allowed
from ppo2.numerics.schedules import ScheduleLike
from ppo2.reporting import logs
from ppo2.reporting.screens import shows_progress
from ppo2.runners import acting
from ppo2.system import runtime
from ppo2.system.calls import told_plainly
from ppo2.system.python_stack import with_room
from ppo2.system.signals import StopSignals, raise_for
from ppo2.system.verbosity import spoken
from ppo2.training import construction, interruption, remarks, run_directory
from ppo2.training.loop import run_updates
from ppo2.training.memory import check_memory, in_one_memory, memory_need
from ppo2.training.moments import Moments
from ppo2.training.plan import batch_plan
from ppo2.training.run import Run
from ppo2.training.setup import Setup
from ppo2.training.start import find_start
from ppo2.training.update_function import UpdateFunction


@with_room
@told_plainly("ppo2.learn(env='CartPole-v1', total_timesteps=1e5)")
@spoken
@transfers_allowed
def learn(
    *,
    network: Any = Config.network,
    env: Any,
    total_timesteps: float = 1e6,
    eval_env: Any = Config.eval_env,
    seed: int | None = None,
    nsteps: int = Config.nsteps,
    ent_coef: float = Config.ent_coef,
    lr: ScheduleLike = Config.lr,
    vf_coef: float = Config.vf_coef,
    max_grad_norm: float | None = Config.max_grad_norm,
    gamma: float = Config.gamma,
    lam: float = Config.lam,
    log_interval: int = Config.log_interval,
    log: str | Sequence[str] = Config.log,
    log_options: Mapping[str, Any] | None = None,
    nminibatches: int = Config.nminibatches,
    noptepochs: int = Config.noptepochs,
    cliprange: ScheduleLike = Config.cliprange,
    save_interval: int = Config.save_interval,
    load_path: str | os.PathLike[str] | Model | None = None,
    load_parts: str | Sequence[str] | None = None,
    model_fn: Callable[..., Model] | None = None,
    update_fn: Callable[..., Any] | None = None,
    callbacks: Sequence[Callback] = (),
    init_fn: Callable[[], Any] | None = None,
    value_network: Any = Config.value_network,
    encoders: Mapping[str, Any] | None = Config.encoders,
    num_envs: int | None = None,
    normalize_obs: bool = Config.normalize_obs,
    normalize_rewards: bool = Config.normalize_rewards,
    value_cliprange: ScheduleLike | None = Config.value_cliprange,
    action_dist: ActionDist = Config.action_dist,
    target_kl: float | None = Config.target_kl,
    precision: Precision | None = Config.precision,
    bootstrap_truncated: bool = Config.bootstrap_truncated,
    eval_interval: int | None = Config.eval_interval,
    eval_episodes: int = Config.eval_episodes,
    video_interval: int = Config.video_interval,
    video_envs: int = Config.video_envs,
    video_steps: int = Config.video_steps,
    info_keys: Sequence[str] = (),
    monitor_limit: int | None = Config.monitor_limit,
    shards: int | None = None,
    devices: int | None = Config.devices,
    device: Device = Config.device,
    run_dir: str | os.PathLike[str] | None = None,
    keep: int | None = Config.keep,
    on_nonfinite: Literal["raise", "skip"] = Config.on_nonfinite,
    verbose: int = 1,
    progress: bool | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    eval_env_kwargs: Mapping[str, Any] | None = Config.eval_env_kwargs,
    **network_kwargs: Any,
) -> Model:
    """Trains a policy with Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347) and returns it.

    Schedules are numbers, text ("linear:3e-4", "cosine:3e-4", "constant:3e-4") or functions of `frac`, which goes from
    1 at the first update towards 0: frac = 1 - (update - 1) / nupdates. They are evaluated once an update.

    Args:
    {settings}
        load_path: a checkpoint, a run directory (its newest checkpoint), or a model. A new run takes its weights,
            optimiser and normaliser, and begins at its first update. If run_dir is the same directory, or the one that
            the checkpoint is in, and the arguments are the same, that run is resumed instead; it starts again if it was
            stopped before its first checkpoint. Later checkpoints are set aside. Another total_timesteps extends the
            run, or shortens it (at most to the timesteps that are done): schedules then follow the new total.
        load_parts: the parts that a new run takes from load_path, of "weights", "normaliser" and "optimiser" (Adam's
            moments); None: all. The others begin from scratch: ("weights", "normaliser") fine-tunes without old
            moments.
        update_fn: called after each update as update_fn(update, model, stats), with as many of these three as it has
            parameters. If it returns False (Python's, NumPy's or JAX's), training stops after a checkpoint; with None
            or True it continues. `stats.evaluation` is the result of an evaluation after this update, else None.
        callbacks: objects that are called at certain moments of training. They may stop it, log their own figures, and
            have state that is saved: see `ppo2.callbacks` and docs/callbacks.md. A resumed run needs the same ones.
        init_fn: called once, before the first update.
        run_dir: directory for logs, checkpoints and the learning curve, to which no other process may write until this
            call returns; None writes nothing.
        verbose: 0 prints nothing: messages and warnings go to the logger "ppo2" of Python's `logging`. 1 prints the
            plan, messages and a summary; 2 also the progress.
        progress: True shows the progress for every `verbose`: a table that is updated in place on a terminal and in a
            notebook, elsewhere a line for each row of the log. False shows none, and no summary. None: `verbose`
            decides; 1 shows only the table.
        **network_kwargs: for the network's builder; for mlp num_layers=2, num_hidden=64, activation="tanh",
            layer_norm=False.

    Returns:
        The trained model, with the methods `step`, `predict`, `value` and `save`; `ppo2.evaluate` evaluates it. In a
        notebook or at a prompt it is also returned if Ctrl-C (SIGINT) stopped training after an update.

    Raises:
        ValueError, TypeError: an argument that can't work, or a `run_dir` in which another training works. It is raised
            before the first step of an environment, and says which argument and why. ValueError also if training meets
            numbers that are not finite and `on_nonfinite` is "raise".
        ppo2.envs.EnvironmentFailureError: environments failed more than three times in 60 seconds. The state before
            that is saved (with several processes: that of the last checkpoint).
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM came; the update was finished and a checkpoint written (before
            the first update: at once, and nothing is written). A second signal stops at once. `ppo2.interrupted`
            returns the model then. In other threads than the main one, signals are not handled: return False from
            `update_fn` there.

    If several processes train (`ppo2.distributed`), an error in one of them ends all, with status 75; an error that all
    of them raise is raised.
    """
    runtime.begin()
    more_settings, network_kwargs = separate_settings(network_kwargs)
    configure = functools.partial(
        Config, env=env, eval_env=eval_env, total_timesteps=total_timesteps,  # type: ignore[arg-type] # 1e6, as people write it
        network=network, network_kwargs=network_kwargs, value_network=value_network, encoders=encoders,
        model_fn=model_fn, action_dist=action_dist, nsteps=nsteps, nminibatches=nminibatches, noptepochs=noptepochs,
        lr=lr, cliprange=cliprange, value_cliprange=value_cliprange, gamma=gamma, lam=lam, ent_coef=ent_coef,
        vf_coef=vf_coef, max_grad_norm=max_grad_norm, target_kl=target_kl, bootstrap_truncated=bootstrap_truncated,
        normalize_obs=normalize_obs, normalize_rewards=normalize_rewards, log_interval=log_interval,
        log=log, log_options={} if log_options is None else log_options,
        save_interval=save_interval, eval_interval=eval_interval, eval_episodes=eval_episodes, keep=keep,
        video_interval=video_interval, video_envs=video_envs, video_steps=video_steps,
        info_keys=info_keys, monitor_limit=monitor_limit, devices=devices, device=device, on_nonfinite=on_nonfinite,
        precision=precision, env_kwargs={} if env_kwargs is None else env_kwargs, eval_env_kwargs=eval_env_kwargs,
        **more_settings,
    )  # fmt: skip
    with contextlib.ExitStack() as stack, processes.errors_end_all():
        signal = AgreedSignal(stack.enter_context(StopSignals(patient=False)))  # until there is something to lose
        interruption.forget()
        processes.warn_if_alone()
        stack.callback(heartbeat.expect_pauses)
        construction.check_callable(model_fn=model_fn, init_fn=init_fn)
        function = UpdateFunction(update_fn)
        run_dir = run_directory.absolute(run_dir)  # before an environment may change the current directory
        settings = check_settings(configure.keywords)
        check_none_would_be_saved(settings)
        moments = Moments(with_films(checked_callbacks(callbacks), settings, run_dir))
        if distributed.world().is_first:  # which alone writes
            logs.check(settings["log"], run_dir)
        placement.asked_place(device)
        counted = getattr(env, "num_envs", None) if num_envs is None else num_envs
        construction.check_names(network, network_kwargs, {"num_envs": counted, "nsteps": nsteps, "lr": lr})
        lock = stack.enter_context(run_directory.locked(run_dir))
        start = find_start(load_path, run_dir, load_parts)
        vector = construction.open_training_environment(stack, env, num_envs, start, settings)
        num_envs = vector.num_envs * distributed.world().size
        on_device = isinstance(vector, DeviceVector)
        stack.enter_context(computing_on(placement.place_to_begin(device, on_device=on_device)))
        config = construction.build_config(configure, vector, start, seed=seed, num_envs=num_envs, shards=shards)
        model = construction.build_model(config, vector, model_fn, start.encoding)
        start.restore(model)
        construction.place_model(model, vector, start)
        stack.enter_context(model.learning())
        eval_vector = None if eval_env is None else construction.open_eval_environment(stack, eval_env, model)
        trainer = construction.build_trainer(stack, config, vector, model)
        need = memory_need(config, model, trainer.runner.axis.devices, on_device=on_device)
        too_large = check_memory(config, need)
        shows = shows_progress(progress, verbose)
        setup = Setup(config, model, trainer, start, signal, moments, run_dir=run_dir, lock=lock, progress=shows)
        stack.enter_context(moments)  # to come after the run, which writes its files
        run = stack.enter_context(Run(setup, eval_vector))
        run.begin()
        warm_up, stepped_by = construction.warm_up_steps(config, model), getattr(vector, "stepped_by", None)
        if described := placement.described(model.placement):
            setup.logger.say(described)
        for line in (
            placement.changed(start.kept.get("placement"), model.placement),
            acting.changed(start.kept, model.acts_with),
            remarks.fewer_devices(model),
        ):
            if line:
                setup.logger.warn(line)
        told: dict[str, Any] = {"stepped_by": stepped_by}
        told["together"] = in_one_memory(model, trainer.runner.axis, on_device=on_device)
        setup.logger.say(batch_plan(config, model, need, first=run.first, warm_up_steps=warm_up, **told))
        if too_large is not None:
            setup.logger.warn(too_large)
        for line in remarks.at_start(config, model, vector, fresh=start.saved is None):
            setup.logger.warn(line)
        if init_fn is not None:
            init_fn()
        moments.start(vector)
        if function.any or 1 in moments.intervals:
            trainer.look_at_each_update()
        setup.synchronise("when training began")
        setup.logger.begin()
        if run.first <= config.nupdates:
            trainer.prepare(run.first)
        construction.fill_normaliser(config, model, trainer.runner, lambda fault: run.check_fault(0, fault))
        if function.any:
            function.begin(setup)
            run.tasks.append(function)
        run.finish_update()
        update = run_updates(
            trainer,
            run.tasks,
            first=run.first,
            last=run.first - 1 if moments.is_stopped else config.nupdates,
            signal=signal,
            record=run.record,
            collected=moments.collected,
        )
        run.finish(update, progress=progress)
        if signal.received is not None and not interruption.is_returned(signal.stop):
            raise_for(signal.received)
        if signal.received is not None:
            run.tell_of_stop(signal.received, is_returned=True)
    return model


learn.__doc__ = inspect.cleandoc(learn.__doc__ or "").replace("{settings}", settings_help(" " * 4))
