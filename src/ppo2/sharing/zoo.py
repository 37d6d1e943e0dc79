"""The trained policies in this package: `zoo:NAME` in the place of a path.

They lie in `zoo/`, beside zoo.json, which has for each the command that made it and its score.
"""

import json
from typing import NamedTuple

from ppo2.checkpoints import addresses

ABOUT = addresses.ZOO_FOLDER / "zoo.json"


class Entry(NamedTuple):
    """A trained policy.

    Attributes:
        name: the environment's id; `zoo:` and the name are its address.
        score: mean return of `episodes` deterministic episodes that training never saw, with its 95 % interval.
        extra: the extra of this package that the environment needs; "" if none.
        command: the command that trained it.
    """

    name: str
    score: str
    episodes: int
    extra: str
    command: str


def entries() -> list[Entry]:
    """All trained policies in this package."""
    found = json.loads(ABOUT.read_text(encoding="utf-8"))
    return [Entry(name, **about) for name, about in sorted(found.items())]
