"""Pickles for other processes: functions and classes of a script travel whole, networks of Equinox too."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import equinox as eqx

FIELD_SETTINGS = ("init", "repr", "hash", "compare", "kw_only")
DEFAULTS = ("default", "default_factory")
GENERATED = "__create_fn__"
"""Function in which `dataclasses` makes methods, as their qualified names say."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle's pickler, whose Equinox modules begin with their fields.

    Cloudpickle makes a class without anything in it, and fills it then, as what is in it may refer to it. A module's
    fields are looked at where the class is made: without them its instances can't be made, and have no weights.
    """

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented or not (isinstance(obj, type) and issubclass(obj, eqx.Module)):
            return reduced
        make, arguments, (state, slots), *rest = reduced
        code = getattr(state.get("__init__"), "__code__", None)
        has_init = code is not None and not code.co_qualname.startswith(GENERATED)
        filled = {name: value for name, value in state.items() if name != "__dataclass_fields__"}
        return _module_class, (make, arguments, _own_fields(obj), has_init), (filled, slots), *rest


def packed(message: Any) -> bytes:
    """A message for a process that this one started, or for Ray."""
    with io.BytesIO() as file:
        _Pickler(file).dump(message)
        return file.getvalue()


def unpacked(message: bytes) -> Any:
    """The inverse of `packed`."""
    return cloudpickle.loads(message)


def _own_fields(module: type[eqx.Module]) -> dict[str, dict[str, Any]]:
    """The arguments of `dataclasses.field` for each field of a class that is not one of its bases'."""
    bases = [vars(base).get("__dataclass_fields__", {}) for base in module.__mro__[1:]]
    inherited = {id(field) for fields in bases for field in fields.values()}
    found: dict[str, dict[str, Any]] = {}
    for field in dataclasses.fields(module):
        if id(field) not in inherited:
            defaults = {name: getattr(field, name) for name in DEFAULTS}
            found[field.name] = {
                "metadata": dict(field.metadata),
                **{name: getattr(field, name) for name in FIELD_SETTINGS},
                **{name: value for name, value in defaults.items() if value is not dataclasses.MISSING},
            }
    return found


def _module_class(
    make: Callable[..., Any], arguments: tuple[Any, ...], fields: Mapping[str, Mapping[str, Any]], has_init: bool
) -> Any:
    """A class that has its fields, and will be filled.

    Args:
        make: cloudpickle's function for a class that has nothing, given the metaclass, the name, the bases, the
            namespace and what else it takes, `arguments`.
        has_init: the class has an `__init__` of its own, in the place of that of a dataclass.
    """
    metaclass, name, bases, namespace, *rest = arguments
    own = {name: dataclasses.field(**settings) for name, settings in fields.items()}
    init = {"__init__": _to_be_replaced} if has_init else {}
    namespace = {**namespace, "__annotations__": dict.fromkeys(fields, Any), **own, **init}
    return make(metaclass, name, bases, namespace, *rest)


def _to_be_replaced(self: Any) -> None:
    """In the place of the `__init__` that a class is filled with."""
