"""The checks of an environment, in their order, and what is done where one fails."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ppo2.diagnosis import acting, contract_checks, judging, making, on_device, playing, repeating, vectors
from ppo2.diagnosis.findings import Finding, Proposal
from ppo2.diagnosis.proposal import propose
from ppo2.diagnosis.subject import Case, Kind
from ppo2.envs.host.constructors import OURS, what_and_where
from ppo2.envs.host.serial_envs import ENV_ERRORS

Function = Callable[[Case], Iterator[Finding]]

FIRST = ("constructor", "spaces")
"""Checks without which there is nothing to look at."""


class Check(NamedTuple):
    """A check.

    Attributes:
        name: name of its findings.
        function: the check of host environments.
        on_device, of_vector: the checks of others; None where they need none.
    """

    name: str
    function: Function | None
    on_device: Function | None
    of_vector: Function | None


CHECKS = (
    Check("constructor", making.constructor, making.constructor, making.constructor),
    Check("spaces", making.space_checks, making.space_checks, making.space_checks),
    Check("reset and step", contract_checks.reset_and_step, on_device.contract, vectors.contract),
    Check("Gymnasium", contract_checks.gymnasium_checker, None, None),
    Check("random play", playing.random_play, on_device.random_play, vectors.random_play),
    Check("determinism", repeating.determinism, on_device.determinism, None),
    Check("effect", acting.effect, None, None),
    Check("observations", judging.observations, judging.observations, judging.observations),
    Check("scale", judging.scale, judging.scale, judging.scale),
    Check("action bounds", acting.bounds, acting.bounds, acting.bounds),
    Check("action masks", judging.masks, judging.masks, judging.masks),
    Check("rewards", judging.rewards, judging.rewards, judging.rewards),
    Check("episodes", judging.episodes, judging.episodes, judging.episodes),
    Check("random policy", judging.random_policy, judging.random_policy, judging.random_policy),
    Check("speed", acting.speed, on_device.speed, acting.speed),
)


NAMES = tuple(check.name for check in CHECKS)


def check_of(name: str, kind: Kind) -> Function | None:
    """A check for environments of a kind; None if it isn't for these."""
    check = CHECKS[NAMES.index(name)]
    return {"device": check.on_device, "vector": check.of_vector}.get(kind, check.function)


def run(case: Case, name: str, function: Function) -> Iterator[Finding]:
    """Makes a check, whatever the environment does."""
    try:
        yield from function(case)
    except LookupError as error:
        if error.args and error.args[0] == "no random step could be made":
            yield Finding(name, "skipped", str(error.args[0]))
        else:
            yield _fault(name, error)
    except ENV_ERRORS as error:
        yield _fault(name, error)


def obstacle(case: Case, name: str) -> str:
    """The reason why nothing more can be checked after a check; "" if there is none."""
    if case.env is None:
        return "there is no environment to look at"
    return "its spaces are not usable" if name == FIRST[-1] and "action_space" not in case.facts else ""


def _fault(name: str, error: BaseException) -> Finding:
    """The finding of an error: a message for users as it is, anything else with its place."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    is_ours = at is not None and at.tb_frame.f_code.co_filename.startswith(OURS)
    if is_ours and isinstance(error, ValueError | TypeError):
        words = " ".join(str(error).split())
        return Finding(name, "fault", words)
    return Finding(name, "fault", f"raised {what_and_where(error)}", "fix it there")


def proposal(case: Case) -> Proposal | None:
    """Settings for the environment; None where it can't be trained on, or nothing is known of it."""
    if "action_space" not in case.facts or case.play is None or not case.play.steps:
        return None
    return propose(case)
