"""Every error has its line in the one table, and the documentation shows that table."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from holdfast.api.errors import TABLE, line_of, problem
from holdfast.base.errors import Broken, HoldfastError, OutcomeUnknown, Refused, Unavailable
from holdfast.domains.ledger.errors import LaneFull
from holdfast.domains.webhooks.errors import EndpointUrlInvalid

BELOW_THE_EDGE = ("base", "platform", "domains", "flows", "adapters", "boot", "api")
DOC = Path(__file__).parents[2] / "docs" / "reference" / "api.md"


def errors() -> Iterator[type[HoldfastError]]:
    for storey in BELOW_THE_EDGE:
        root = importlib.import_module(f"holdfast.{storey}")
        for found in pkgutil.walk_packages(getattr(root, "__path__", []), f"holdfast.{storey}."):
            importlib.import_module(found.name)
    waiting = [HoldfastError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind.__module__.startswith(tuple(f"holdfast.{storey}" for storey in BELOW_THE_EDGE)):
            yield kind


def test_every_error_that_can_reach_the_edge_has_its_line() -> None:
    found = list(errors())
    assert len(found) > 40
    missing = {f"{kind.__module__}.{kind.__name__}: {kind.code}" for kind in found if kind.code not in TABLE}
    assert not missing


def test_a_code_belongs_to_one_error() -> None:
    owners: dict[str, type[HoldfastError]] = {}
    for kind in errors():
        first = owners.setdefault(kind.code, kind)
        assert first is kind or issubclass(kind, first) or issubclass(first, kind), (kind, first)


def test_what_may_succeed_later_says_when_and_what_will_not_says_nothing_of_it() -> None:
    assert problem(LaneFull(retry_after_s=2.5)).retry_after_s == 2.5
    assert problem(Refused()).retry_after_s == 0.0


def test_each_family_keeps_its_promise_in_its_status() -> None:
    for kind in errors():
        status = TABLE[kind.code].status
        if kind.__module__ == "holdfast.boot" or status == 500:
            continue
        if issubclass(kind, Unavailable):
            assert status in (409, 429, 503), kind
        elif issubclass(kind, OutcomeUnknown):
            assert status == 503, kind
        elif issubclass(kind, Broken):
            assert status == 500, kind


def test_v5_0_0_16_5_1_what_an_invariant_says_stays_inside() -> None:
    told = problem(Broken("the books of merchant 7 differ by 3", table="ledger.balances"), "req_1")
    assert (told.status, told.detail, told.facts) == (500, "", {})
    assert told.code == "broken"


def test_no_message_has_a_line_break_for_those_who_read_it() -> None:
    for kind in errors():
        if kind.__init__ in (HoldfastError.__init__, Unavailable.__init__):
            assert "\n" not in problem(kind()).detail, kind


def test_a_webhook_address_that_is_refused_is_told_what_is_taken() -> None:
    said = problem(EndpointUrlInvalid()).detail
    assert "https" in said
    assert "in development also http" in said


def test_an_error_without_a_line_is_answered_as_its_family() -> None:
    class Unlisted(Unavailable):
        """Nobody has written a line for it."""

        code = "unlisted_for_this_test"

    assert line_of(Unlisted()) is TABLE["unavailable"]


def test_the_documentation_shows_the_table_as_it_is() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \| (.+?) \| (.+?) \|$", DOC.read_text(), re.MULTILINE)
    assert rows == [(code, str(line.status), line.title, line.remedy) for code, line in sorted(TABLE.items())]
