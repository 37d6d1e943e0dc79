"""`ppo2 eval` and `ppo2 play`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from ppo2.cli.env_options import NO_INHERIT, TakesEnvironment
from ppo2.cli.options import Debug, Flag
from ppo2.cli.output import console, say, shown, start_jax, table
from ppo2.config import Config, Device, is_placeholder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ppo2.agent.model import Model
    from ppo2.evaluation.evaluate import NDArray


@dataclasses.dataclass(kw_only=True)
class _PolicyCommand(TakesEnvironment):
    """Options of commands that play with the policy of a run."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="run directory (its newest checkpoint), or a checkpoint")]
    env: Annotated[str | None, arg(metavar="ID", help="environment to play; None: the one trained on")] = None
    no_inherit: Annotated[Flag, arg(help=NO_INHERIT)] = False
    max_steps: Annotated[
        int | None, arg(help="steps after which an episode is cut; None: 10,000, or the environment's own time limit")
    ] = None
    stochastic: Annotated[Flag, arg(help="sample actions instead of taking the most probable ones")] = False
    device: Annotated[Device, arg(help="processor to compute on; auto leaves a GPU to trainings")] = "auto"
    debug: Debug = False

    @property
    def processor(self) -> Device:
        """The processor to compute on."""
        return "cpu" if self.device == Config.device else self.device

    def model_and_env(self) -> tuple["Model", str, dict[str, Any]]:
        """The model, the id of the environment: the one given, or the one trained on; and its arguments."""
        from ppo2 import envs
        from ppo2.agent.loading import load

        start_jax(self.processor)
        model = load(self.run, device=self.device)
        env = model.config.env if self.env is None else self.env
        if isinstance(env, str):
            before = {} if self.no_inherit else envs.inherited(env, model.config.env, model.config.env_kwargs)
            return model, env, self.env_kwargs(env, before)
        what = f" ({env['object']})" if is_placeholder(env) else ""  # type: ignore[index]
        raise ValueError(f"{self.run} was trained on an environment given as an object{what}: name one with --env ID.")


@dataclasses.dataclass(kw_only=True)
class Eval(_PolicyCommand):
    """Evaluate the policy of a run on whole episodes. The policy doesn't change."""

    episodes: Annotated[int, arg(help="number of episodes")] = 100
    seed: Annotated[int, arg(help="seed of the environments and of sampling")] = 0
    partial_episodes: Annotated[
        Literal["count", "drop", "raise"],
        arg(help="count, leave out, or refuse episodes that were cut, which have their returns so far"),
    ] = "count"
    info_keys: Annotated[
        tuple[str, ...] | None,
        arg(help="numbers of `info` at the ends of episodes to show; None: those of the training"),
    ] = None

    def __call__(self) -> int:
        from ppo2.evaluation.evaluate import evaluate

        model, env, kwargs = self.model_and_env()
        result = evaluate(
            model,
            env,
            episodes=self.episodes,
            deterministic=not self.stochastic,
            seed=self.seed,
            max_steps=self.max_steps,
            partial_episodes=self.partial_episodes,
            info_keys=self.info_keys,
            device=self.device,
            env_kwargs=kwargs,
        )
        arguments = "".join(f", {name} {shown(value)}" for name, value in kwargs.items())
        actions = "sampled actions" if self.stochastic else "most probable actions"
        say(f"{env}{arguments}, {self.episodes} episode{'s' * (self.episodes != 1)}, {actions}, seed {self.seed}")
        if not len(result.returns):
            say("no episode ended")
            return 0
        figures = ("mean", "std", "min", "max")
        rows = [
            [name, *(f"{getattr(values, figure)():,.2f}" for figure in figures)]
            for name, values in {"return": result.returns, "length": result.lengths, **_known(result.infos)}.items()
        ]
        console().print(table(["", *figures], rows))
        return 0


def _known(infos: "Mapping[str, NDArray]") -> "dict[str, NDArray]":
    """The numbers of `info` without those that are NaN: of episodes that had none."""
    known = {name: values[values == values] for name, values in infos.items()}
    return {name: values for name, values in known.items() if values.size}


@dataclasses.dataclass(kw_only=True)
class Play(_PolicyCommand):
    """Watch the policy of a run on a display, or film it."""

    video: Annotated[Path | None, arg(metavar="FILE", help="film to write: .mp4 or .gif")] = None
    episodes: Annotated[int, arg(help="number of episodes")] = 1
    seed: Annotated[int, arg(help="seed of the environment; the first episode is the one of `ppo2 eval`")] = 0

    def __call__(self) -> int:
        from ppo2.evaluation.play import play

        model, env, kwargs = self.model_and_env()
        play(
            model,
            env,
            episodes=self.episodes,
            seed=self.seed,
            deterministic=not self.stochastic,
            video=self.video,
            max_steps=self.max_steps,
            device=self.device,
            env_kwargs=kwargs,
            on_episode=lambda episode, r, length: say(f"episode {episode}: return {r:g}, {length:,} timesteps"),
        )
        if self.video is not None:
            say(f"wrote {self.video}")
        return 0
