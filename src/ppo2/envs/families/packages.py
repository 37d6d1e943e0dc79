"""Packages of others that register environments: the module to import for an id, and what to install for it."""

import sys
from dataclasses import dataclass

from ppo2.envs.families.foreign import SUPERSUIT
from ppo2.envs.host.contract import SHIMMY


@dataclass(frozen=True)
class Package:
    """A package whose ids are known by their form.

    Attributes:
        ids: pattern of its ids.
        package: module that registers them when it is imported; None: no module registers them with Gymnasium.
        remedy: words that say what to install, or to do.
        needs: other modules without which it registers none.
    """

    ids: str
    package: str | None
    remedy: str
    needs: tuple[str, ...] = ()


def _pip(names: str) -> str:
    return f"They come with: pip install {names}"


_NO_BSUITE = "bsuite has no release for Python 3.12 or later: use Python 3.11."

PACKAGES = (
    Package(
        r"bsuite/.*", "shimmy", _pip("'shimmy[bsuite]'.") if sys.version_info < (3, 12) else _NO_BSUITE, ("bsuite",)
    ),
    Package(r"Meta-World/.*", "metaworld", _pip("metaworld.")),
    Package(r"MiniWorld-.*", "miniworld", _pip("miniworld. It draws with OpenGL, for which it needs a display.")),
    Package(
        r"(Fetch|Hand(Manipulate|Reach)|AdroitHand|FrankaKitchen|PointMaze_|AntMaze_)\w*-v\d+",
        "gymnasium_robotics",
        _pip("gymnasium-robotics."),
    ),
    Package(
        r"(highway(-fast)?|merge|roundabout|parking|intersection|racetrack|exit|two-way|u-turn|lane-keeping)(-.*)?-v\d+",
        "highway_env",
        _pip("highway-env."),
    ),
    Package(r"Vizdoom.*", "vizdoom.gymnasium_wrapper", _pip("vizdoom.")),
    Package(r"FlappyBird-.*", "flappy_bird_gymnasium", _pip("flappy-bird-gymnasium.")),
    Package(r"Panda(Reach|Push|Slide|PickAndPlace|Stack|Flip)\w*-v\d+", "panda_gym", _pip("panda-gym.")),
    Package(r"\w+BulletEnv-v\d+", "pybullet_envs_gymnasium", _pip("pybullet-envs-gymnasium.")),
    Package(r"MiniHack-.*", "minihack", _pip("minihack.")),
    Package(r"NetHack.*-v\d+", "nle", _pip("nle.")),
    Package(r"PyFlyt/.*", "PyFlyt.gym_envs", _pip("PyFlyt.")),
    Package(r"popgym-.*", "popgym", _pip("popgym.")),
    Package(
        r"mo-.*-v\d+",
        "mo_gymnasium",
        _pip("mo-gymnasium. Their rewards are vectors, of which mo_gymnasium.wrappers.LinearReward makes numbers."),
    ),
    Package(
        r"procgen[-:_/].*",
        None,
        "procgen has no release for Python 3.11 or later; EnvPool has its games: pip install envpool, then ids such as "
        "'envpool:CoinrunEasy-v0'.",
    ),
    Package(
        r"(SuperMarioBros|Crafter(No)?Reward)\S*",
        None,
        f"It is of the old package gym: make one and convert it with the package shimmy: {SHIMMY}.",
    ),
    Package(
        r"(pettingzoo|butterfly|classic|mpe2?|sisl)[/.].+|[a-z][a-z0-9_]*_v\d+",
        None,
        f"PettingZoo's environments have several agents, and no ids: {SUPERSUIT}, where PARALLEL_ENV is "
        "MODULE.parallel_env().",
    ),
)
"""Packages, the first whose pattern fits first."""
