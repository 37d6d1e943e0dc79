"""Errors of environments' constructors, told in one sentence: which environment, what it raised, and where."""

import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ppo2.system.text import install_command

OURS = str(Path(__file__).parents[2])
"""Folder of this package."""
LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
"""Folders of packages that are installed, where an environment's own code seldom is."""
ARGUMENT = re.compile(r"(missing .+ arguments?: .+?|got an unexpected keyword argument .+?)( was raised from.*)?$")
"""The end of Python's error for a call with too few or wrong arguments; Gymnasium adds to it."""


class ConstructorError(ValueError):
    """An environment could not be made; its cause is the error that was raised, with its traceback."""


def made_by(factory: Callable[[], Any], which: str, how: str) -> Any:
    """Makes an environment.

    Args:
        which: words that name the environment, for errors.
        how: words that say how to give arguments to its constructor.

    Raises:
        ConstructorError: it raised an error that isn't one of ours.
    """
    try:
        return factory()
    except (Exception, SystemExit) as error:
        frames: list[traceback.FrameSummary] = list(traceback.extract_tb(error.__traceback__))
        wrong = ARGUMENT.search(str(error)) if isinstance(error, TypeError) else None
        if frames[-1].filename.startswith(OURS) and not wrong:  # a message for users already
            raise
        if wrong:
            frames = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]  # which only pass them on
        remedy = how if wrong else "Fix it there."
        if "MoviePy is not installed" in str(error):  # of Gymnasium's RecordVideo
            remedy = f"RecordVideo needs MoviePy: {install_command('video')}."
        raise ConstructorError(_sentence(error, frames, which, remedy)) from error


def _sentence(error: BaseException, frames: Sequence[traceback.FrameSummary], which: str, remedy: str) -> str:
    """Words for an error of a constructor."""
    return f"{which} could not be made: its constructor raised {_said(error, frames)}. {remedy}"


def what_and_where(error: BaseException) -> str:
    """Words for an error: its type and text, and its place in the user's own code, else wherever it was raised."""
    return _said(error, list(traceback.extract_tb(error.__traceback__)))


def _said(error: BaseException, frames: Sequence[traceback.FrameSummary]) -> str:
    """`what_and_where`, given the frames that count: the last line of the user's own, else of whichever was last."""
    elsewhere = (OURS, *LIBRARIES)
    own = [frame for frame in frames if not frame.filename.startswith(elsewhere)]
    called = [frame for frame in frames if not frame.filename.startswith(OURS)]
    text = " ".join(ARGUMENT.sub(r"\1", str(error)).split())
    said = f"{type(error).__name__}: {text}" if text else f"{type(error).__name__}, without a text"
    where = [f", in {at.name} ({at.filename}, line {at.lineno})" for at in (own or called)[-1:]]
    return f"{said}{''.join(where)}"
