"""Findings of checks, and the result of all of them: for people and for machines; without JAX."""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from ppo2.system.text import printable

Status: TypeAlias = Literal["ok", "warning", "fault", "skipped"]

WIDTH = 80
"""Characters in a line."""
MARKS: Mapping[str, str] = {"ok": "ok", "warning": "warning", "fault": "FAULT", "skipped": "-"}
LABEL, MARK = 15, 8
"""Characters of the first two columns."""


@dataclass(frozen=True)
class Finding:
    """Finding of one check.

    Attributes:
        check: its name.
        status: "ok"; "warning": training works, but not as well as it could, or something is not as is usual;
            "fault": training can't work, or trains on something else than was meant; "skipped": not checked.
        words: a sentence about it.
        remedy: the thing to do; "" where there is none.
        figures: numbers behind the words, by name.
    """

    check: str
    status: Status
    words: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Proposal:
    """Settings to begin with.

    Attributes:
        settings: arguments of `learn`.
        reasons: a sentence for each decision.
        command: the command that trains so; None where the environment has no name for the command line.
        env: the `env` of `learn`, as it is written.
    """

    settings: Mapping[str, Any]
    reasons: Sequence[str]
    command: str | None = None
    env: str = "..."


@dataclass(frozen=True)
class Diagnosis:
    """The result of `doctor`.

    Attributes:
        subject: name of the environment, or of what else was checked.
        findings: in the order of the checks.
        proposal: settings to begin with; None where no environment was checked, or it can't be trained on.
        seconds: duration of the checks.
    """

    subject: str
    findings: Sequence[Finding]
    proposal: Proposal | None = None
    seconds: float = 0.0

    @property
    def faults(self) -> list[Finding]:
        """Findings for which training can't work."""
        return [one for one in self.findings if one.status == "fault"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings worth a look."""
        return [one for one in self.findings if one.status == "warning"]

    @property
    def ok(self) -> bool:
        """True if there is no fault."""
        return not self.faults

    def __getitem__(self, check: str) -> Finding:
        """The gravest finding of a check.

        Raises:
            KeyError: there is none of this name.
        """
        order: list[str] = ["fault", "warning", "ok", "skipped"]
        found = [one for one in self.findings if one.check == check]
        if not found:
            raise KeyError(check)
        return min(found, key=lambda one: order.index(one.status))

    def to_json(self) -> str:
        """The whole as JSON: the attributes, and `ok`."""
        return json.dumps(_plain({**asdict(self), "ok": self.ok}), indent=2, allow_nan=False)

    def __str__(self) -> str:
        return "\n".join([*header(self.subject), *(line for one in self.findings for line in lines(one)), *self.end()])

    def end(self) -> list[str]:
        """The lines after the findings: the proposal and the sum."""
        return [*([] if self.proposal is None else _proposed(self.proposal)), "", self.summary()]

    def summary(self) -> str:
        """One line that sums up."""
        counts = [(len(self.faults), "fault"), (len(self.warnings), "warning")]
        words = [f"{count} {name}{'s' * (count != 1)}" for count, name in counts if count]
        return f"{', '.join(words) or 'no problem found'} ({self.seconds:.0f} s)"


def header(subject: str) -> list[str]:
    """The lines above the findings."""
    return _wrapped(f"ppo2 doctor: {subject}", 0)


def lines(finding: Finding) -> list[str]:
    """A finding, as lines of a screen."""
    first = f"{finding.check:<{LABEL}}{MARKS[finding.status]:<{MARK}}"
    text = _wrapped(first + printable(finding.words), LABEL + MARK)
    return text + (
        _wrapped(" " * (LABEL + MARK) + f"-> {printable(finding.remedy)}", LABEL + MARK + 3) if finding.remedy else []
    )


def _proposed(proposal: Proposal) -> Iterator[str]:
    yield ""
    yield "proposal"
    if proposal.command is not None:
        yield from _command(proposal.command)
    settings = ", ".join(f"{name}={value!r}" for name, value in proposal.settings.items())
    yield from _wrapped(f"  ppo2.learn(env={proposal.env}, {settings})", 4)
    for reason in proposal.reasons:
        yield from _wrapped(f"  - {reason}", 4)


def _command(command: str) -> list[str]:
    """A command over several lines of a shell, none of which is broken inside an option."""
    words = command.replace(" --", "\0--").split("\0")
    found = [f"  {words[0]}"]
    for word in words[1:]:
        if len(found[-1]) + 1 + len(word) <= WIDTH - 2:
            found[-1] += f" {word}"
        else:
            found[-1] += " \\"
            found.append(f"    {word}")
    return found


def _wrapped(text: str, indent: int) -> list[str]:
    head = text[: len(text) - len(text.lstrip())]
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=head, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text.lstrip()) or [""]


def _plain(value: Any) -> Any:
    """A value that strict JSON has a form for: NumPy's as Python's own, numbers that are not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    listed = getattr(value, "tolist", None)
    if callable(listed):
        return _plain(listed())
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
