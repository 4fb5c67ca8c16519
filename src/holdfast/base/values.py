"""Frozen values that are quick to make.

A frozen dataclass sets each field through `object.__setattr__`, 60 ns a field: a payment with its attempt and
rows would spend an eighth of its time there. `quick` gives the class an `__init__` that makes the instance
one of an open twin (same slots, not frozen), sets the fields as fast as any, and closes it again. What is
made is the same in every way. `changed` copies a value in the same manner, and `members` reads enumerations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields, make_dataclass
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


def quick(kind: type[T]) -> type[T]:
    """Make a frozen, slotted dataclass quick to make. To stand above `@dataclass(frozen=True, slots=True)`.

    Raises: `TypeError` for a class with fields that `__init__` does not set one by one, in order.
    """
    frozen: type = kind
    every = fields(frozen)
    if hasattr(kind, "__post_init__") or any(not each.init or each.kw_only for each in every):
        raise TypeError(f"{kind.__name__} has fields that are not simply set")
    known: dict[str, Any] = {
        "_set": object.__setattr__,
        "_twin": _twin(frozen),
        "_kind": kind,
        "_missing": MISSING,
    }
    heads, lines = [], ["_set(self, '__class__', _twin)"]
    for each in every:
        head, line = _field(each, known)
        heads.append(head)
        lines.append(line)
    lines.append("self.__class__ = _kind")
    source = f"def __init__(self, {', '.join(heads)}):\n " + "\n ".join(lines)
    exec(source, known)  # noqa: S102 - from the names of fields alone, as dataclasses does it
    known["__init__"].__qualname__ = f"{kind.__qualname__}.__init__"
    known["__init__"].__annotations__ = kind.__init__.__annotations__
    kind.__init__ = known["__init__"]  # type: ignore[method-assign]
    return kind


def changed(value: T, **new: Any) -> T:  # noqa: ANN401 - fields of any dataclass
    """Return a frozen, slotted dataclass with some fields changed.

    `dataclasses.replace` at a twentieth of its time. Fields must be of the right type; no `__post_init__`
    runs. Raises: `AttributeError` for a field that there is not.
    """
    kind: type = value.__class__
    return _changer(kind, tuple(new))(value, **new)  # type: ignore[no-any-return]


@cache
def _changer(kind: type, names: tuple[str, ...]) -> Callable[..., Any]:
    """Return what copies a value of `kind`, with `names` set to what is handed in.

    There are as many as the code has ways to change a value: names of fields are never data.
    """
    every = [each.name for each in fields(kind)]
    if strange := [name for name in names if name not in every]:
        raise AttributeError(f"{kind.__name__} has no field {strange[0]!r}")
    known: dict[str, Any] = {"_new": object.__new__, "_twin": _twin(kind), "_kind": kind}
    lines = ["_made = _new(_twin)"]
    lines += [f"_made.{name} = {name if name in names else f'_value.{name}'}" for name in every]
    lines += ["_made.__class__ = _kind", "return _made"]
    source = f"def change({', '.join(('_value', *names))}):\n " + "\n ".join(lines)
    exec(source, known)  # noqa: S102 - from the names of fields alone
    return known["change"]  # type: ignore[no-any-return]


@cache
def _twin(kind: type) -> type:
    """Return a class with the same slots as `kind` that is not frozen."""
    names = [each.name for each in fields(kind)]
    return make_dataclass(kind.__name__, names, slots=True, eq=False, repr=False)


def members(kind: type[T]) -> type[T]:
    """Return the members of an enumeration, each under its name, for code that runs for every payment.

    To read one from the class itself takes 0.1 µs in Python 3.11, ten times as long as from here, and a
    payment reads some 150.
    """
    every: dict[str, T] = kind.__members__  # type: ignore[attr-defined]
    found = type(kind.__name__, (), {"__slots__": tuple(every)})()
    for name, member in every.items():
        setattr(found, name, member)
    return cast("type[T]", found)


def _field(each: Field[Any], known: dict[str, Any]) -> tuple[str, str]:
    """Return how a field stands among the parameters, and how it is set."""
    name = each.name
    if each.default_factory is not MISSING:
        known[f"_new_{name}"] = each.default_factory
        return f"{name}=_missing", f"self.{name} = _new_{name}() if {name} is _missing else {name}"
    if each.default is not MISSING:
        known[f"_default_{name}"] = each.default
        return f"{name}=_default_{name}", f"self.{name} = {name}"
    return name, f"self.{name} = {name}"
