"""The command line: `ppo2 train ENV`, `config`, `resume`, `sweep`, `tune`, `eval`, `play`, ..., and listings."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

import ppo2
from ppo2.cli import (
    config_command,
    doctor,
    export,
    listings,
    model_commands,
    options,
    report_commands,
    sharing,
    sweep,
    train,
    tune,
)
from ppo2.cli.checks import check_options
from ppo2.cli.env_options import TakesEnvironment, UsageError, separated
from ppo2.cli.help import help_page
from ppo2.cli.output import environment_traceback
from ppo2.system.garbage import collection_put_off
from ppo2.system.python_stack import with_room
from ppo2.system.text import say_error

DESCRIPTION = f"""ppo2 {ppo2.__version__}: PPO on JAX. `ppo2 COMMAND --help` lists a command's options.
Exit status: 0 done, 1 failed, 2 usage, 130 or 143 stopped by a signal."""

COMMANDS = {
    "train": train.Train,
    "config": config_command.ConfigCommand,
    "resume": train.Resume,
    "sweep": sweep.SweepCommand,
    "tune": tune.TuneCommand,
    "eval": model_commands.Eval,
    "play": model_commands.Play,
    "export": export.Export,
    "push": sharing.Push,
    "plot": listings.Plot,
    "report": report_commands.Report,
    "watch": report_commands.Watch,
    "envs": listings.Envs,
    "networks": listings.Networks,
    "presets": listings.Presets,
    "zoo": sharing.Zoo,
    "doctor": doctor.Doctor,
}

OF_TRAINING = (train.Train, config_command.ConfigCommand, sweep.SweepCommand, tune.TuneCommand)
"""Commands whose options depend on the environment and the network."""

__all__ = ["main"]


@with_room
def main(argv: Sequence[str] | None = None) -> int:
    """The command `ppo2`; `argv` is without the program's name. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.path.append(os.getcwd())  # for environments named module:Id-v0: `python -m ppo2` looks here too
    if "jaxlib" not in sys.modules and "--debug" not in arguments:
        # Before it is loaded, which reads this: XLA logs an error with advice for its developers where compiling takes
        # long. What fails is raised all the same.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        status = _flushed(_run(arguments))
    except KeyboardInterrupt:
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BrokenPipeError:  # as in `ppo2 envs | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from ppo2.distributed import processes

        processes.fail(error)  # which ends all processes, where there are several and not all have failed alike
        if not processes.raised_by_all(error) or processes.is_first():
            of_environment = environment_traceback(error)
            shown = traceback.format_exc().rstrip() if "--debug" in arguments else of_environment
            if shown is not None:
                say_error(shown, prefix="")
            say_error(_one_line(error, of_environment is not None))
        return 2 if isinstance(error, UsageError) else 1
    return status


def _flushed(status: int) -> int:
    """The exit status, once all output is written: 1 where it can't be, as on a full disk."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        say_error(f"the output could not be written ({error.strerror or error})")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again, and exit with 120
        return 1
    return status


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print(f"ppo2 {ppo2.__version__}")
        return 0
    commands: dict[str, Any] = dict(COMMANDS)
    chosen = commands.get(arguments[0]) if arguments else None
    if arguments and chosen is None and not arguments[0].startswith("-"):
        close = difflib.get_close_matches(arguments[0], commands, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        known = f"Available subcommands: {', '.join(commands)}. `ppo2 --help` tells of each."
        say_error(f"there is no command {arguments[0]!r}{hint} {known}")
        return 2
    if chosen is not None and issubclass(chosen, TakesEnvironment):
        rest, words = separated(arguments[1:])
        if words.eval_env and chosen not in OF_TRAINING:
            raise UsageError(f"--eval-env.{next(iter(words.eval_env))}: `ppo2 {arguments[0]}` takes --env.NAME alone.")
        arguments = [arguments[0], *rest]
        commands[arguments[0]] = chosen.with_words(words)
    if chosen in OF_TRAINING:
        commands[arguments[0]] = commands[arguments[0]].with_options(arguments[1:])
    if chosen is not None:
        command = commands[arguments[0]]
        known = command.chosen.defaults() if issubclass(command, options.Command) else {}
        if {"-h", "--help", "-H", "--help-verbose"} & {*arguments[1:]}:
            print(help_page(arguments[0], command))
            return 0
        check_options(arguments[0], command, arguments[1:], known)
    members = [Annotated[command, subcommand(name, prefix_name=False)] for name, command in commands.items()]
    any_of_them: Any = Union[tuple(members)]  # noqa: UP007 (made at run time)
    with collection_put_off():
        called = tyro.cli(any_of_them, prog="ppo2", description=DESCRIPTION, args=arguments)
    status: int = called()
    return status


def _one_line(error: Exception, is_shown: bool) -> str:
    """An error's text; with its type, unless it was raised for users to read.

    Args:
        is_shown: an environment's traceback was printed before it.
    """
    text = " ".join(str(error).partition("\nTraceback (most recent call last)")[0].split())
    said = f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}, without a text"
    if is_shown:
        from ppo2.envs.host.constructors import ConstructorError
        from ppo2.envs.host.failures import EnvironmentFailureError

        own = isinstance(error, EnvironmentFailureError | ConstructorError)
        return text if own else f"the environment raised {said}"
    if isinstance(error, ValueError | TypeError | OSError) and text:
        return text
    return f"{said} (--debug shows where)"
