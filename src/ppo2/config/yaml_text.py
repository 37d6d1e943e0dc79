"""Text as YAML 1.2 reads it: `1e-3` is a number, `no` and `12:30` are text. PyYAML alone follows YAML 1.1."""

import functools
import re
from typing import Any, ClassVar

FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.?(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", FLOAT, "-+0123456789.iI"),
    ("null", r"~|null|Null|NULL|None|", ["~", "n", "N", ""]),
)
"""Names of YAML's types, the text that is of each, and with what it begins. `None` and `inf` as Python has them."""


def parsed(text: str) -> Any:
    """The value of a text; raises ValueError, with the place, where it is no YAML."""
    import yaml

    try:
        return yaml.load(text, Loader=_loader())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (
        yaml.YAMLError,
        AttributeError,
        TypeError,
        KeyError,
    ) as error:  # of tags on what isn't theirs
        raise ValueError(" ".join(str(error).split())) from None


def dumped(value: Any, width: int = 10**6) -> str:
    """A value as YAML that `parsed` reads, on one line."""
    import yaml

    text: str = yaml.dump(value, Dumper=_dumper(), default_flow_style=True, allow_unicode=True, width=width)
    return text.removesuffix("...\n").strip()


@functools.cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    _add_resolvers(Loader)
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
    Loader.add_constructor("tag:yaml.org,2002:float", _float)
    Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
    return Loader


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

        def ignore_aliases(self, data: Any) -> bool:
            return True

    _add_resolvers(Dumper)
    Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(data))
    return Dumper


def _add_resolvers(where: Any) -> None:
    for kind, pattern, first in RESOLVERS:
        where.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first))


def _float(loader: Any, node: Any) -> float:
    text = loader.construct_scalar(node).lower()
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text))


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in node.value:
        name = loader.construct_object(key, deep=True)
        if isinstance(name, list | dict):
            raise ValueError(f"{name!r} can't be a name, in line {key.start_mark.line + 1}")
        if name in found:
            raise ValueError(f"{name!r} is there twice, in line {key.start_mark.line + 1}")
        found[name] = loader.construct_object(value, deep=True)
    return found
