"""Reads a scenario from TOML, and refuses what it does not know, with the line and what to write instead.

`tomllib` keeps no positions, so a refused key is looked up again in the text: tables are found by their
headers, counted as they come, and keys by their name within their table.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NoReturn, cast

from holdfast.base.errors import Refused
from holdfast.domains.payments.ports import FenceClass
from holdfast.drills.keys import DRILL, FAULTS, PAYERS, RAILS, REQUIRED, SURGE, TRAFFIC, Key
from holdfast.drills.scenario import Fault, FaultKind, Latency, PayerGroup, RailPlan, Scenario, Surge

Place = tuple[str | int, ...]
BALANCE = "balance"
TEXT_CHARS_MAX = 4000
TABLES_MAX = 64
DRAWS_MAX = 5_000_000
"""Payments in one drill: beyond it the drill would not fit this process's memory."""


class ScenarioInvalid(Refused):
    """The scenario file cannot be used."""

    code = "scenario_invalid"


class ScenarioUnknown(Refused):
    """There is no such scenario. `holdfast drill list` names those that there are."""

    code = "scenario_unknown"


def built_in() -> dict[str, Path]:
    """Return the scenarios that come with Holdfast, by name."""
    folder = Path(str(resources.files("holdfast.drills") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(name_or_file: str) -> Scenario:
    """Return the scenario of that name, or in that file. Raises: `ScenarioUnknown`, `ScenarioInvalid`."""
    known = built_in()
    path = known.get(name_or_file) or Path(name_or_file)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_file, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}; or name a .toml file."
        raise ScenarioUnknown(f"There is no scenario {name_or_file!r}. {hint}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ScenarioInvalid(f"{path} cannot be read: {why}. Name a TOML file that can be read.") from None
    return read(text, str(path))


def read(text: str, file: str = "scenario.toml") -> Scenario:
    """Return the scenario that `text` says.

    Raises: `ScenarioInvalid`, with `file`, the line and the remedy.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        last = max(1, len(text.splitlines()))
        why = str(error).replace("at end of document", f"at the end of the file, line {last}")
        raise ScenarioInvalid(f"{file}: this is not TOML: {why}.") from None
    return _Reading(text, file, said).scenario()


class _Reading:
    """One file being read."""

    def __init__(self, text: str, file: str, said: dict[str, Any]) -> None:
        self._lines = text.splitlines()
        self._file = file
        self._said = said

    def scenario(self) -> Scenario:
        head = self._table((), self._said, DRILL, also=("traffic", "payers", "rails", "faults"))
        traffic_said = self._said.get("traffic")
        if not isinstance(traffic_said, dict):
            self._refuse((), "the table [traffic] is missing; it says how many payments come")
        traffic = self._table(("traffic",), traffic_said, TRAFFIC, also=("surges",))
        result = Scenario(
            **{**head, "duration_s": head["duration_s"]},
            per_second=traffic["per_second"],
            asset=traffic["asset"],
            amount_min_minor=traffic["amount_min_minor"],
            amount_max_minor=traffic["amount_max_minor"],
            surges=tuple(
                Surge(**row)
                for row in self._rows(("traffic", "surges"), traffic_said.get("surges", []), SURGE)
            ),
            payers=tuple(
                PayerGroup(**row) for row in self._rows(("payers",), self._said.get("payers", []), PAYERS)
            ),
            rails=tuple(
                self._rail(row) for row in self._rows(("rails",), self._said.get("rails", []), RAILS)
            ),
            faults=tuple(
                self._fault(row) for row in self._rows(("faults",), self._said.get("faults", []), FAULTS)
            ),
        )
        self._check(result)
        return result

    @staticmethod
    def _rail(row: dict[str, Any]) -> RailPlan:
        return RailPlan(**{**row, "fence": FenceClass[row["fence"]]})

    @staticmethod
    def _fault(row: dict[str, Any]) -> Fault:
        return Fault(**{**row, "kind": FaultKind(row["kind"])})

    def _check(self, scenario: Scenario) -> None:
        """What no single key can say."""
        if scenario.amount_min_minor > scenario.amount_max_minor:
            self._refuse(("traffic", "amount_min_minor"), "it is above amount_max_minor; swap the two")
        if not scenario.payers or sum(group.share for group in scenario.payers) <= 0:
            self._refuse((), "nobody pays; add a [[payers]] table with a share above 0")
        self._check_names(scenario)
        for section, spans in (("faults", scenario.faults), ("traffic.surges", scenario.surges)):
            for at, span in enumerate(cast("Sequence[Fault | Surge]", spans)):
                if span.from_s >= span.to_s:
                    self._refuse((*section.split("."), at, "to_s"), "it must be later than from_s")
        if scenario.expected_payments() > DRAWS_MAX:
            why = f"that is over {DRAWS_MAX:,} payments; lower it, or duration_s"
            self._refuse(("traffic", "per_second"), why)

    def _check_names(self, scenario: Scenario) -> None:
        """Every name that is referred to is there, once."""
        names = [rail.name for rail in scenario.rails]
        for at, name in enumerate(names):
            if name in names[:at]:
                self._refuse(("rails", at, "name"), f"there are two rails named {name!r}; name them apart")
        taken = {kind for rail in scenario.rails for kind in rail.methods} | {BALANCE}
        for at, group in enumerate(scenario.payers):
            for kind in (kind for kind in group.methods if kind not in taken):
                why = f"no rail takes {kind!r}; the rails take {', '.join(sorted(taken))}"
                self._refuse(("payers", at, "methods"), why)
        for at, fault in enumerate(scenario.faults):
            if fault.target not in names:
                why = f"there is no rail {fault.target!r}; there are {', '.join(names)}"
                self._refuse(("faults", at, "target"), why)

    def _rows(self, place: Place, said: object, keys: Sequence[Key]) -> list[dict[str, Any]]:
        name = ".".join(map(str, place))
        if not isinstance(said, list) or not all(isinstance(row, dict) for row in said):
            self._refuse(place, f"{name} is a list of tables; begin each with [[{name}]]")
        if len(said) > TABLES_MAX:
            self._refuse(place, f"there are more than {TABLES_MAX} tables [[{name}]]; leave some out")
        return [self._table((*place, at), row, keys) for at, row in enumerate(said)]

    def _table(
        self, place: Place, said: Mapping[str, object], keys: Sequence[Key], also: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        known = [key.name for key in keys]
        for name in said:
            if name not in known and name not in also:
                near = difflib.get_close_matches(name, [*known, *also], n=1)
                hint = (
                    f"did you mean {near[0]}?" if near else f"here there may be {', '.join([*known, *also])}"
                )
                self._refuse((*place, name), f"there is no such key; {hint}")
        return {key.name: self._value((*place, key.name), said.get(key.name, REQUIRED), key) for key in keys}

    def _value(self, place: Place, said: object, key: Key) -> object:
        if said is REQUIRED:
            if key.default is REQUIRED:
                self._refuse(place, f"it is missing; it says: {key.meaning}")
            return key.default
        return getattr(self, f"_{key.shape}")(place, said, key)

    def _text(self, place: Place, said: object, key: Key) -> str:
        if not isinstance(said, str) or len(said) > TEXT_CHARS_MAX:
            self._refuse(
                place, f'{said!r} is not a text of up to {TEXT_CHARS_MAX} characters; put it in "quotes"'
            )
        if key.choices and said not in key.choices:
            near = difflib.get_close_matches(said, key.choices, n=1)
            hint = f"did you mean {near[0]}? Choose" if near else "choose"
            self._refuse(place, f"{said!r} is none of the choices; {hint} one of {', '.join(key.choices)}")
        return said.strip()

    def _number(self, place: Place, said: object, key: Key) -> float:
        if isinstance(said, bool) or not isinstance(said, int | float) or not key.low <= said <= key.high:
            self._refuse(place, f"{said!r} is not a number from {plain(key.low)} to {plain(key.high)}")
        return said

    def _whole(self, place: Place, said: object, key: Key) -> int:
        if isinstance(said, bool) or not isinstance(said, int) or not key.low <= said <= key.high:
            self._refuse(place, f"{said!r} is not a whole number from {plain(key.low)} to {plain(key.high)}")
        return said

    def _share(self, place: Place, said: object, key: Key) -> float:  # noqa: ARG002 (one signature for all shapes)
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= 1:
            self._refuse(place, f"{said!r} is not a share; write a number from 0 to 1, such as 0.35")
        return float(said)

    def _yes_no(self, place: Place, said: object, key: Key) -> bool:  # noqa: ARG002
        if not isinstance(said, bool):
            self._refuse(place, f"{said!r} is neither; write true or false")
        return said

    def _texts(self, place: Place, said: object, key: Key) -> tuple[str, ...]:  # noqa: ARG002
        if not isinstance(said, list) or not said or not all(isinstance(one, str) and one for one in said):
            self._refuse(place, f'{said!r} is not a list of names; write for example ["visa", "bank"]')
        return tuple(said)

    def _spread(self, place: Place, said: object, key: Key) -> Latency:  # noqa: ARG002
        example = "write { median_ms = 300, p99_ms = 1500 }"
        if not isinstance(said, dict) or set(said) != {"median_ms", "p99_ms"}:
            self._refuse(place, f"it needs exactly median_ms and p99_ms; {example}")
        median, p99 = said["median_ms"], said["p99_ms"]
        for one in (median, p99):
            if isinstance(one, bool) or not isinstance(one, int | float) or not 0.1 <= one <= 1e9:
                self._refuse(place, f"{one!r} is not a number of milliseconds from 0.1; {example}")
        if p99 < median:
            self._refuse(place, f"the 99th percentile lies below the median; {example}")
        return Latency(median, p99)

    def _refuse(self, place: Place, why: str) -> NoReturn:
        line = find_line(self._lines, place)
        name = ".".join(str(part) for part in place if isinstance(part, str))
        stop = "" if why.endswith("?") else "."
        raise ScenarioInvalid(
            f"{self._file}:{line}: {name + ': ' if name else ''}{why}{stop}", line=line, key=name
        )


def plain(bound: float) -> str:
    """Write a bound out, with separators, never with an exponent."""
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\s]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*["']?([A-Za-z0-9_\-]+)["']?\s*(\.|=)""")


def find_line(lines: Sequence[str], place: Place) -> int:
    """Return the line, from 1, of the key or table at `place`, or of the table that should hold it."""
    wanted_key = place[-1] if place and isinstance(place[-1], str) else None
    table = place[:-1] if wanted_key is not None else place
    names = ".".join(str(part) for part in table if isinstance(part, str))
    number = next((part for part in reversed(table) if isinstance(part, int)), None)
    current, seen, here, best = "", -1, not names, 1
    in_text = ""
    for at, line in enumerate(lines, start=1):
        if in_text:
            in_text = "" if in_text in line else in_text
            continue
        if header := _HEADER.match(line):
            current = header[2].replace(" ", "")
            seen = seen + 1 if current == names else seen
            here = current == names and (number is None or seen == number)
            if here or (wanted_key is not None and current == f"{names}.{wanted_key}".lstrip(".")):
                best = at
        elif here and (key := _KEY.match(line)) and key[1] == wanted_key:
            return at
        for quote in ('"""', "'''"):
            in_text = quote if line.count(quote) % 2 else in_text
    return best
