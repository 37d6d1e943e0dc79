"""`ppo2 config`: a settings file that says what `ppo2 train` would do."""

import dataclasses
import inspect
from typing import Any

from ppo2.cli import help as help_pages
from ppo2.cli.options import TrainingOptions, network_options
from ppo2.cli.train import Train
from ppo2.config import Config, secrets, settings_file
from ppo2.system.text import say_error

LEFT_OUT = frozenset(
    {"config", "run_dir", "progress", "auto_resume", "load_path", "load_parts", "model_fn"}
    | {field.name for field in dataclasses.fields(TrainingOptions)}
)
"""Options that are of one command, not of what it does; they are written where they are given."""


@dataclasses.dataclass(kw_only=True)
class ConfigCommand(Train):
    """Print a settings file for `ppo2 train`, with a comment per line: `ppo2 config ENV > mine.yaml`, then
    `ppo2 train --config mine.yaml`. Defaults: presets, which depend on the environment.
    """

    def __call__(self) -> int:
        values = self.chosen.over(vars(self))
        values |= self.environments_arguments(values["env"], values["eval_env"], self.chosen.file)
        values["total_timesteps"] = _whole(values["total_timesteps"])
        network = {
            option.name: option.help.replace(", or any function of arrays", "")
            for option in network_options(self.chosen.network)
        }
        given = {*self.chosen.given, *self.chosen.file} - {"config"}
        names = [name for name in Config.__dataclass_fields__ if name not in LEFT_OUT and name in values]
        at = names.index("network") + 1
        names = [*names[:at], *network, *names[at:], *(name for name in sorted(LEFT_OUT & given) if name in values)]
        settings = {name: values[name] for name in names if not _says_nothing(name, values[name])}
        if found := secrets.in_settings({"log_options": settings.get("log_options")}):
            say_error(f"warning: {', '.join(found)} holds what looks like a secret, and is left out")
            settings["log_options"] = secrets.without(settings["log_options"])
        title = (
            f"What `ppo2 train {values['env']}` does. `ppo2 train --config FILE` reads this; options override it.\n"
            f"{help_pages.SCHEDULE}"
        )
        print(
            settings_file.text(
                settings, title=title, texts={**network, "env": "id of the environment", **help_pages.TEXTS}
            ),
            end="",
        )
        return 0


def _says_nothing(name: str, value: Any) -> bool:
    """True for arguments of environments that there are none of, and of a network that have no value."""
    return value is inspect.Parameter.empty or (name in ("env_kwargs", "eval_env_kwargs") and value is None)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
