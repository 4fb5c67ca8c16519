"""Scenario files: read as documented, refused with the line and the remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.base.errors import Refused
from holdfast.drills.keys import SECTIONS
from holdfast.drills.reading import ScenarioInvalid, ScenarioUnknown, built_in, load, read
from tests.drills.worlds import HEAD, PAYERS, RAIL, fault, tiny

GOOD = HEAD + PAYERS + RAIL + fault("dark", from_s=10, to_s=20)
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "drills.md"


def line_of(text: str, part: str) -> int:
    return next(at for at, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_scenario_that_comes_with_holdfast_can_be_read(name: str) -> None:
    scenario = load(name)
    assert scenario.name == name
    assert scenario.source
    assert scenario.title_zh
    assert scenario.faults, "a drill without a fault drills nothing"


def test_the_six_outages_of_the_catalogue_are_there() -> None:
    assert set(built_in()) >= {
        "visa-europe-2018",
        "square-discover-2023",
        "upi-2025-04-12",
        "fiserv-zelle-2025",
        "aws-2025-10",
        "double-11-surge",
    }


@pytest.mark.parametrize(
    ("was", "becomes", "at", "says"),
    [
        ("deadline_s = 20", "deadlin_s = 20", "deadlin_s", "did you mean deadline_s?"),
        ("deadline_s = 20", "", None, "deadline_s: it is missing; it says: how long a payer waits"),
        ("deadline_s = 20", "deadline_s = 0", "deadline_s = 0", "not a whole number from 1 to 600"),
        ("deadline_s = 20", 'deadline_s = "20"', "deadline_s =", "not a whole number"),
        ("deadline_s = 20", "deadline_s = true", "deadline_s =", "not a whole number"),
        ("per_second = 5", "per_second = nan", "per_second", "not a number"),
        ("per_second = 5", "per_second = 99999", "per_second", "over 5,000,000 payments"),
        ("seed = 7", "seed = -1", "seed = -1", "a whole number from 0 to 9,007,199,254,740,992."),
        ("share = 1.0", "share = 1.5", "share = 1.5", "not a share; write a number from 0 to 1"),
        (
            'methods = ["card"]\n\n[[rails]]',
            'methods = ["cart"]\n\n[[rails]]',
            '"cart"',
            "no rail takes 'cart'",
        ),
        ('methods = ["card"]', "methods = []", "methods = []", "not a list of names"),
        (
            'fence = "F4"',
            'fence = "F9"',
            'fence = "F9"',
            "none of the choices; choose one of F0, F1, F2, F3, F4",
        ),
        ('kind = "dark"', 'kind = "darc"', 'kind = "darc"', "did you mean dark? Choose one of gray, hang"),
        (
            'target = "north"',
            'target = "south"',
            'target = "south"',
            "there is no rail 'south'; there are north",
        ),
        ("to_s = 20", "to_s = 5", "to_s = 5", "later than from_s"),
        ("to_s = 20", "to_s = 20\nwhile = 3", "while", "no such key; here there may be target, kind"),
        ("p99_ms = 600", "p99_ms = 60", "latency", "99th percentile lies below the median"),
        ("p99_ms = 600", "p98_ms = 600", "latency", "exactly median_ms and p99_ms"),
        ("[traffic]", "[trafic]", "[trafic]", "did you mean traffic?"),
        ("[[faults]]", "[faults]", "[faults]", "begin each with [[faults]]"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line_and_the_remedy(
    was: str, becomes: str, at: str | None, says: str
) -> None:
    assert was in GOOD
    text = GOOD.replace(was, becomes, 1)
    with pytest.raises(ScenarioInvalid) as refused:
        read(text, "my.toml")
    assert says in refused.value.message
    assert not re.search(r"[?.]\.$|\de\+", refused.value.message), "one full stop, no exponents"
    line = re.match(r"my\.toml:(\d+): ", refused.value.message)
    assert line is not None
    if at is not None:
        assert int(line[1]) == line_of(text, at)


def test_what_is_not_toml_is_refused_with_the_place() -> None:
    with pytest.raises(ScenarioInvalid, match=r"my\.toml: this is not TOML: .*line 3"):
        read('name = "x"\n\nseed = = 2\n', "my.toml")


def test_a_file_that_ends_too_early_is_refused_with_its_last_line() -> None:
    with pytest.raises(ScenarioInvalid, match=r"at the end of the file, line 2"):
        read("seed = 1\nmethods = [", "my.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioInvalid, match="cannot be read: it is not UTF-8 text"):
        load(str(tmp_path / "my.toml"))


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_scenario_is_scaled_by_a_number_above_nothing_only(factor: float) -> None:
    with pytest.raises(Refused, match="give a number above 0"):
        tiny().scaled(factor)


def test_the_line_is_found_in_the_second_table_of_its_kind_and_past_long_texts() -> None:
    text = GOOD.replace(
        'story = "Nothing happens unless a fault says so."', 'story = """\n[[faults]]\nshare = 9\n"""'
    ) + fault("dark", share=7)
    with pytest.raises(ScenarioInvalid) as refused:
        read(text, "my.toml")
    assert refused.value.message.startswith(f"my.toml:{line_of(text, 'share = 7')}: faults.share:")


def test_two_rails_of_one_name_are_refused() -> None:
    with pytest.raises(ScenarioInvalid, match="two rails named 'north'"):
        tiny(PAYERS, RAIL, RAIL)


def test_a_name_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ScenarioUnknown, match="Did you mean visa-europe-2018"):
        load("visa-europe-2019")


def test_every_key_is_documented_with_its_meaning() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for section, keys in SECTIONS.items():
        for key in keys:
            row = re.search(rf"^\| `{key.name}` \|.*$", part(text, section), re.MULTILINE)
            assert row, f"docs/reference/drills.md has no row for {section}.{key.name}"
            assert key.meaning.replace("|", "\\|") in row[0], f"{section}.{key.name} is described otherwise"


def part(text: str, section: str) -> str:
    """Return the part of the page that documents a table of the file."""
    title = {"": "The head", "traffic": "`[traffic]`"}.get(section, f"`[[{section}]]`")
    found = re.search(rf"^### {re.escape(title)}.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"there is no part {title}"
    return found[0]
