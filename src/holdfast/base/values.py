"""Frozen values that are quick to make.

A frozen dataclass sets each field through `object.__setattr__`, 60 ns a field: a payment with its attempt and
rows would spend an eighth of its time there. `quick` gives the class an `__init__` that makes the instance
one of an open twin (same slots, not frozen), sets the fields as fast as any, and closes it again. What is
made is the same in every way.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def quick(kind: type[T]) -> type[T]:
    """Make a frozen, slotted dataclass quick to make. To stand above `@dataclass(frozen=True, slots=True)`.

    Raises: `TypeError` for a class with fields that `__init__` does not set one by one, in order.
    """
    every = fields(kind)  # type: ignore[arg-type]
    if hasattr(kind, "__post_init__") or any(not each.init or each.kw_only for each in every):
        raise TypeError(f"{kind.__name__} has fields that are not simply set")
    twin = make_dataclass(kind.__name__, [each.name for each in every], slots=True, eq=False, repr=False)
    known: dict[str, Any] = {"_set": object.__setattr__, "_twin": twin, "_kind": kind, "_missing": MISSING}
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
