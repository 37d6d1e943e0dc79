"""`ppo2 doctor`."""

import dataclasses
import os
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from ppo2.cli.env_options import EnvArgument, TakesEnvironment, UsageError, read
from ppo2.cli.options import Debug, Flag
from ppo2.system.text import printable

if TYPE_CHECKING:
    from ppo2.diagnosis.findings import Finding


@dataclasses.dataclass(kw_only=True)
class Doctor(TakesEnvironment):
    """Check the installation or, with ENV, an environment before a run, and propose settings to begin with.

    Nothing is trained. The exit status is 1 if there is a fault, else 0.
    """

    env: Annotated[
        Positional[str | None],
        arg(
            metavar="[ENV]",
            help="environment id, or module:Name of your own class or function; without it the installation is checked",
            help_behavior_hint="",
        ),
    ] = None
    seconds: Annotated[float, arg(help="about how long the checks of an environment may take")] = 20.0
    env_timeout: Annotated[
        float, arg(help="seconds without an answer after which an environment counts as hanging")
    ] = 10.0
    seed: Annotated[int, arg(help="seed of random actions and of the environment")] = 0
    json: Annotated[Flag, arg(help="print JSON, for programs")] = False
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2.diagnosis.doctor import doctor
        from ppo2.diagnosis.findings import header, lines

        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a card may be at work for others
        if not self.json:
            print("\n".join(header(printable(self.env or "the installation"))), flush=True)

        def show(finding: "Finding") -> None:
            if not self.json:
                print("\n".join(lines(finding)), flush=True)

        found = doctor(
            self.env,
            env_kwargs=self._kwargs(),
            seconds=self.seconds,
            env_timeout=self.env_timeout,
            seed=self.seed,
            on_finding=show,
        )
        print(found.to_json() if self.json else "\n".join(found.end()), flush=True)
        return int(not found.ok)

    def _kwargs(self) -> dict[str, Any]:
        """The environment's arguments, of an id or of a class or function of the user's."""
        if not self.words.env:
            return {}
        if self.env is None:
            raise UsageError("--env.NAME is for an environment: ppo2 doctor ENV --env.NAME VALUE.")
        from ppo2.diagnosis.doctor import class_in_a_module
        from ppo2.envs.families.arguments import Argument, constructor_arguments

        found = class_in_a_module(self.env)
        if isinstance(found, str):
            return self.env_kwargs(self.env)
        known = constructor_arguments(found).known
        arguments = {name: EnvArgument(*known.get(name, Argument()), False) for name in self.words.env}
        return {name: read(word, arguments[name], f"--env.{name}") for name, word in self.words.env.items()}
