"""The EU's report of a major incident: the 76 fields of Regulation (EU) 2025/302, as JSON.

`dora_fields.json` has the fields with their conditions and lists of answers, as the annex gives them.
The three stages ask for more and more of them; a report says what is asked for and still empty.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Final, Literal

import msgspec

from holdfast.status.rules.assessment import Deadline, Grade
from holdfast.status.rules.dora_names import NAMES
from holdfast.status.rules.dora_values import Value, conditions, moment, values
from holdfast.status.rules.errors import ChoiceImpossible
from holdfast.status.rules.firm import Firm
from holdfast.status.rules.packs import eu_dora
from holdfast.status.rules.record import Record
from holdfast.status.words import Words

Stage = Literal["initial", "intermediate", "final"]

SUBMISSIONS: Final[dict[Stage, str]] = {
    "initial": "initial notification",
    "intermediate": "intermediate report",
    "final": "final report",
}
RECLASSIFIED: Final = "major incident reclassified as non-major"
CODES: Final = {"1.15": ("[A-Z]{3}", "ISO 4217"), "2.6": ("[A-Z]{2}", "ISO 3166-1 alpha-2")}
"""Fields that take codes: their form, and the standard that lists them."""


class Asked(msgspec.Struct, frozen=True):
    """One field of the template. `initial`, `intermediate`, `final`: `Yes`, `No`, or the condition."""

    field: str
    name: str
    initial: str
    intermediate: str
    final: str
    type: str
    choices: tuple[str, ...]
    type_note: str


class Field(msgspec.Struct, frozen=True):
    """One field, filled. `asked`: the stage wants it, and its condition holds; `missing`: and it is empty."""

    field: str
    name: Words
    value: Value
    asked: bool
    missing: bool


class Report(msgspec.Struct, frozen=True):
    """A report of one stage, filled as far as is known at `at`."""

    incident: str
    firm: str
    stage: Stage
    submission: str
    at: datetime
    grade: Grade
    fields: tuple[Field, ...]
    deadlines: tuple[Deadline, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of fields that are asked for and still empty."""
        return tuple(field.field for field in self.fields if field.missing)


@cache
def template() -> tuple[Asked, ...]:
    """Return the 76 fields in their order."""
    data = resources.files("holdfast.status.rules").joinpath("dora_fields.json").read_bytes()
    return msgspec.json.decode(data, type=tuple[Asked, ...])


def fill(record: Record, firm: Firm, stage: Stage, now: datetime) -> Report:
    """Return the report of a stage. What the stage does not want stays empty.

    Raises: `ChoiceImpossible`, `CountryUnknown`.
    """
    found = eu_dora.assess(record, now, firm)
    submission = RECLASSIFIED if record.reclassified else SUBMISSIONS[stage]
    given = values(record, firm, found, submission, now)
    holds = conditions(record, firm, found, stage, now)
    fields = []
    for asked in template():
        wanted = getattr(asked, stage) != "No"
        value = given[asked.field] if wanted else None
        check(asked, value)
        needed = wanted and holds.get(asked.field, True)
        empty = value is None or value in ("", ())
        name = Words(asked.name, NAMES[asked.field])
        fields.append(Field(asked.field, name, value, needed, needed and empty))
    return Report(
        record.id, firm.name, stage, submission, now, found.grade, tuple(fields), found.deadlines
    )  # fmt: skip


def check(asked: Asked, value: Value) -> None:
    """Refuse a value that a field cannot take. Raises: `ChoiceImpossible`."""
    answers = value if isinstance(value, tuple) else (value,)
    for answer in answers:
        if answer is None or answer == "":
            continue
        if asked.choices and answer not in asked.choices:
            raise ChoiceImpossible(
                f"{asked.field} {asked.name}: {answer!r} is none of its answers: {' | '.join(asked.choices)}"
            )
        pattern, standard = CODES.get(asked.field, ("", ""))
        if pattern and re.fullmatch(pattern, str(answer)) is None:
            raise ChoiceImpossible(f"{asked.field} {asked.name}: {answer!r} is no code of {standard}.")


def as_json(report: Report) -> bytes:
    """Return a report as JSON: all 76 fields, what is missing, and what is due when (times in UTC)."""
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "template": "Implementing Regulation (EU) 2025/302",
                "incident": report.incident,
                "firm": report.firm,
                "stage": report.stage,
                "submission": report.submission,
                "at": moment(report.at),
                "grade": report.grade,
                "missing": report.missing,
                "fields": report.fields,
                "deadlines": [
                    {
                        "id": due.id,
                        "words": due.words,
                        "due": moment(due.due),
                        "remaining_s": None if due.remaining is None else due.remaining.total_seconds(),
                        "moved": due.moved,
                        "projected": due.projected,
                        "done_at": moment(due.done_at),
                        "source": due.source,
                    }
                    for due in report.deadlines
                ],
            }
        ),
        indent=1,
    )
