"""`ppo2 push` and `ppo2 zoo`."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ppo2.cli.options import Debug, Flag
from ppo2.cli.output import console, say, table


@dataclasses.dataclass(kw_only=True)
class Push:
    """Upload a run to the Hugging Face Hub: its newest checkpoint, settings, logs, curve, film and model card."""

    run: Annotated[Positional[Path], arg(metavar="RUN", help="run directory, or a checkpoint")]
    repo: Annotated[Positional[str], arg(metavar="USER/NAME", help="repository, made if it isn't there")]
    private: Annotated[Flag, arg(help="a new repository can be seen by its owner alone")] = False
    message: Annotated[str, arg(help="the commit's message")] = "Upload a policy trained with ppo2"
    debug: Debug = False

    def __call__(self) -> int:
        from ppo2.sharing.push import push

        page = push(self.run, self.repo, private=self.private, message=self.message)
        say(f"{page}; ppo2 play hf://{self.repo.removeprefix('hf://')} plays it")
        return 0


@dataclasses.dataclass(kw_only=True)
class Zoo:
    """List the trained policies in this package, which `ppo2 play zoo:NAME` plays."""

    debug: Debug = False

    def __call__(self) -> int:
        from ppo2.sharing.zoo import entries

        found = entries()
        rows = [[f"zoo:{entry.name}", entry.score, entry.extra] for entry in found]
        console().print(table(["", "mean return", "needs extra"], rows))
        say("\nTrained by")
        for entry in found:
            say(f"  {entry.command}")
        episodes = max(entry.episodes for entry in found)
        say(f"\nMean of {episodes} episodes with the most probable actions. `ppo2 play zoo:CartPole-v1` plays one.")
        return 0
