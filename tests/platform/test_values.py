"""Frozen values made quickly are the values that they would be."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from enum import StrEnum

import pytest

from holdfast.base.values import changed, members, quick


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


@pytest.mark.parametrize("new", [{}, {"a": 2}, {"c": [1], "a": 3}, {"a": 4, "b": "d", "c": []}])
@pytest.mark.parametrize("value", [Plain(1), Quick(1, "x", [2])])
def test_a_changed_value_is_what_replace_makes_and_leaves_the_first_as_it_was(
    value: Plain | Quick, new: dict[str, object]
) -> None:
    before = copy.deepcopy(value)
    made = changed(value, **new)
    assert type(made) is type(value)
    assert made == replace(value, **new)  # type: ignore[arg-type]
    assert value == before
    with pytest.raises(FrozenInstanceError):
        made.a = 2  # type: ignore[misc]


def test_a_field_that_there_is_not_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="Quick has no field 'd'"):
        changed(Quick(1), d=2)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_the_members_of_an_enumeration_are_its_own() -> None:
    colours = members(Colour)
    assert list(Colour) == [colours.RED, colours.BLUE]
    assert colours.RED is Colour.RED
    assert not hasattr(colours, "GREEN")
