"""Frozen values made quickly are the values that they would be."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from holdfast.base.values import quick


@dataclass(frozen=True, slots=True)
class Plain:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)


MADE = [((1,), {}), ((1, "x"), {}), ((1,), {"b": "y"}), ((), {"a": 2, "c": [3]}), ((4, "z", [5]), {})]


@pytest.mark.parametrize(("args", "named"), MADE)
def test_a_quick_value_equals_the_plain_one_in_every_field(
    args: tuple[object, ...], named: dict[str, object]
) -> None:
    plain, made = Plain(*args, **named), Quick(*args, **named)  # type: ignore[arg-type]
    assert type(made) is Quick
    assert [getattr(made, f.name) for f in fields(made)] == [getattr(plain, f.name) for f in fields(plain)]
    assert repr(made).replace("Quick", "Plain") == repr(plain)
    assert made == Quick(*args, **named) == replace(made) == copy.copy(made)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_quick_value_is_frozen() -> None:
    made = Quick(1)
    with pytest.raises(FrozenInstanceError):
        made.a = 2  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        made.other = 2  # type: ignore[attr-defined]


def test_a_list_that_is_a_default_is_made_anew_for_each_value() -> None:
    assert Quick(1).c is not Quick(1).c


def test_a_quick_value_takes_the_same_arguments_and_refuses_the_same() -> None:
    assert list(inspect.signature(Quick).parameters) == list(inspect.signature(Plain).parameters)
    for args in ((), (1, 2, 3, 4)):
        with pytest.raises(TypeError):
            Quick(*args)


def test_a_class_that_checks_itself_when_made_cannot_be_quick() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        a: int

        def __post_init__(self) -> None:
            raise AssertionError

    with pytest.raises(TypeError):
        quick(Checked)
