"""The result of a training that was broken off, for whoever has nothing else of it."""

import signal
from typing import TYPE_CHECKING, Union

from ppo2.agent.model import Model
from ppo2.system.signals import StopSignals, is_interactive

if TYPE_CHECKING:
    from ppo2.sweeps.result import Sweep
    from ppo2.tuning.result import Tuning

_kept: list[Union[Model, "Sweep", "Tuning"]] = []


def interrupted() -> Union[Model, "Sweep", "Tuning", None]:
    """The model of the last `learn`, as it was after its last update, if a signal or an error broke that off.

    Of a sweep, and of `tune`, its result so far. For a script that catches KeyboardInterrupt, or a notebook:

        try:
            model = ppo2.learn(env="CartPole-v1")
        except KeyboardInterrupt:
            model = ppo2.interrupted()

    None if the last call went through, or was broken off before its first update.
    """
    return _kept[0] if _kept else None


def keep(result: Union[Model, "Sweep", "Tuning"]) -> None:
    """Takes note of what `interrupted` shall return."""
    _kept[:] = [result]


def forget() -> None:
    """Has `interrupted` return None: another training begins."""
    _kept.clear()


def is_returned(stop: StopSignals) -> bool:
    """True if training returns its result so far after the signal that came, instead of raising: Ctrl-C of a person in
    an interactive session, whose variable would stay empty.
    """
    return stop.received == signal.SIGINT and is_interactive() and not stop.is_inner
