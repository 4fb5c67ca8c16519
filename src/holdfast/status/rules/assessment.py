"""What a pack answers, and the few comparisons that all packs are made of.

Three answers are possible: met, not met, and not known. What is not known never counts as not met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from typing import Final, Literal, Protocol

import msgspec

from holdfast.status.rules.firm import Firm
from holdfast.status.rules.record import Bounds, Record
from holdfast.status.words import Words

Grade = Literal[
    "major", "not_major", "especially_major", "reportable", "not_reportable", "exceeded", "unknown"
]
Unit = Literal["share", "count", "seconds", "EUR", "states", "yes_no"]

GRADES: Final[dict[Grade, Words]] = {
    "major": Words("major", "重大事件"),
    "not_major": Words("not major", "非重大事件"),
    "especially_major": Words("especially major", "特别重大事件"),
    "reportable": Words("reportable", "须报告"),
    "not_reportable": Words("not reportable", "无须报告"),
    "exceeded": Words("allowance exceeded", "超出停机上限"),
    "unknown": Words("not known yet", "尚不明确"),
}


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold, with the number behind it. `met` None: not known.

    `number`, `threshold` and `short` are in `unit`; a share of 1 is all; `yes_no` has no numbers. `short` is
    what is missing to meet it (0 or less: nothing). `tips_at`: when a running clock will meet it.
    `sure` False: the number or its wording could not be confirmed.
    """

    id: str
    words: Words
    unit: Unit
    comparison: Literal[">", ">=", "is"]
    threshold: float | None
    number: float | None
    met: bool | None
    margin: Words
    short: float | None = None
    tips_at: datetime | None = None
    estimated: bool = False
    source: str = ""
    sure: bool = True


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done by a time. `due` None: without undue delay, or its clock has not started.

    `projected`: reckoned from an earlier step that is still to come. `moved`: to noon of the next
    working day.
    `remaining` is negative when late, and None once done.
    """

    id: str
    words: Words
    due: datetime | None
    remaining: timedelta | None
    source: str
    sure: bool = True
    moved: bool = False
    projected: bool = False
    done_at: datetime | None = None

    @property
    def late(self) -> bool:
        """Whether it was done after it was due, or is past and not done."""
        if self.due is None:
            return False
        return self.done_at > self.due if self.done_at else (self.remaining or timedelta()) < timedelta()


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What one place's rules say of one record at one moment.

    `tipping`: ids of thresholds, not met, of which any one alone would raise the grade.
    """

    pack: str
    name: Words
    grade: Grade
    tests: tuple[Threshold, ...]
    deadlines: tuple[Deadline, ...]
    at: datetime
    in_force_from: date | None
    in_force: bool
    in_force_sure: bool = True
    tipping: tuple[str, ...] = ()
    notes: tuple[Words, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether any number that decided was an estimate."""
        return any(test.estimated for test in self.tests)

    def test(self, id_: str) -> Threshold:
        """Return the threshold of an id."""
        return next(test for test in self.tests if test.id == id_)

    def deadline(self, id_: str) -> Deadline | None:
        """Return the deadline of an id, or None where there is none."""
        return next((one for one in self.deadlines if one.id == id_), None)


class Pack(Protocol):
    """The rules of one place: a module with these names."""

    @property
    def ID(self) -> str:  # noqa: N802
        """Short name, such as `eu-dora`."""

    @property
    def NAME(self) -> Words:  # noqa: N802
        """Name for people."""

    def assess(self, record: Record, now: datetime, firm: Firm) -> Assessment:
        """Return what the rules say of a record now. Raises: `CountryUnknown`."""


def over(
    id_: str,
    words: Words,
    number: Bounds,
    threshold: float,
    unit: Unit,
    source: str,
    *,
    at_least: bool = False,
    sure: bool = True,
    runs_from: datetime | None = None,
) -> Threshold:
    """Return how a number stands to a threshold: more than it, or (`at_least`) that much or more.

    `runs_from`: the moment of a clock that still runs; it says when the threshold will be met.
    """

    def beyond(value: float) -> bool:
        return value >= threshold if at_least else value > threshold

    met: bool | None = None
    if number.least is not None and beyond(number.least):
        met = True
    elif number.most is not None and not beyond(number.most):
        met = False
    shown = number.least if number.most is None else number.most
    short = None if shown is None else threshold - shown
    tips_at = None
    if runs_from is not None and met is False and short is not None:
        tips_at = runs_from + timedelta(seconds=short)
    return Threshold(
        id=id_,
        words=words,
        unit=unit,
        comparison=">=" if at_least else ">",
        threshold=threshold,
        number=shown,
        met=met,
        margin=_margin(met, short, unit),
        short=short,
        tips_at=tips_at,
        estimated=number.estimated,
        source=source,
        sure=sure,
    )


def flag(id_: str, words: Words, value: bool | None, source: str, *, sure: bool = True) -> Threshold:
    """Return a threshold that is a fact, known or not."""
    margin = {
        True: Words("it is so", "成立"),
        False: Words("it is not so; it would be enough", "不成立；一旦成立即触发"),
        None: Words("not known: answer yes or no", "尚不明确：请回答是或否"),
    }[value]
    return Threshold(
        id=id_,
        words=words,
        unit="yes_no",
        comparison="is",
        threshold=None,
        number=None,
        met=value,
        margin=margin,
        source=source,
        sure=sure,
    )


def only_if(test: Threshold, condition: bool | None) -> Threshold:
    """Return a threshold that counts only under a condition; what is not known of it stays not known."""
    met = all_of((condition, test.met))
    if met is test.met:
        return test
    margin = (
        Words("does not count here: its condition does not hold", "条件不成立，不予计算")
        if met is False
        else Words("not known: its condition is not known", "未知：其条件尚不明确")
    )
    return msgspec.structs.replace(
        test, met=met, margin=margin, tips_at=None if condition is False else test.tips_at
    )


def any_of(values: Iterable[bool | None]) -> bool | None:
    """Return whether one of some answers is yes: None if none is, yet one is not known."""
    return at_least(1, values)


def all_of(values: Iterable[bool | None]) -> bool | None:
    """Return whether all answers are yes: False if one is no, None if one is not known."""
    given = list(values)
    return False if False in given else (None if None in given else True)


def at_least(count: int, values: Iterable[bool | None]) -> bool | None:
    """Return whether at least so many answers are yes, as far as that can be said."""
    given = list(values)
    yes = given.count(True)
    if yes >= count:
        return True
    return None if yes + given.count(None) >= count else False


def deadline(
    id_: str,
    words: Words,
    due: datetime | None,
    now: datetime,
    source: str,
    *,
    done_at: datetime | None = None,
    sure: bool = True,
    projected: bool = False,
    move: Callable[[datetime], datetime] | None = None,
) -> Deadline:
    """Return a deadline with what remains. `move` moves a day off to the next working day."""
    fixed = move(due) if move and due else due
    return Deadline(
        id=id_,
        words=words,
        due=fixed,
        remaining=None if fixed is None or done_at else fixed - now,
        source=source,
        sure=sure,
        moved=fixed != due,
        projected=projected and due is not None,
        done_at=done_at,
    )


def show(number: float | None, unit: Unit) -> Words:
    """Return a number in its unit, for people."""
    if number is None:
        return Words("not known", "未知")
    if unit == "seconds":
        minutes, seconds = divmod(round(abs(number)), 60)
        hours, minutes = divmod(minutes, 60)
        return Words(f"{hours} h {minutes:02} min {seconds:02} s", f"{hours} 小时 {minutes} 分 {seconds} 秒")
    if unit == "share":
        return Words(f"{number * 100:.4g} %")
    if unit == "EUR":
        return Words(f"EUR {number:,.0f}", f"{number:,.0f} 欧元")
    return Words(f"{number:,.0f}")


def _margin(met: bool | None, short: float | None, unit: Unit) -> Words:
    if short is None or (met is None and short > 0):
        return Words("not known: give the number, measured or estimated", "未知：请提供实测或估计数值")
    amount = show(abs(short), unit)
    if met is None:
        return Words(
            f"perhaps met by {amount.en}; not confirmed", f"可能超出 {amount.say('zh-CN')}，尚未确认"
        )
    if met:
        return Words(f"met; beyond by {amount.en}", f"已达到，超出 {amount.say('zh-CN')}")
    return Words(f"not met; {amount.en} away", f"未达到，尚差 {amount.say('zh-CN')}")
