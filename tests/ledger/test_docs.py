"""The reference names every outcome, in order, and says rightly which are kept."""

from __future__ import annotations

import re
from pathlib import Path

from holdfast.domains.ledger.model import Outcome
from tests.ledger.sequential import STAYS_REFUSED

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "ledger.md"


def test_the_documented_order_of_refusals_is_the_real_one() -> None:
    rows = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|.*\| (yes|no|) ?\|$", REFERENCE.read_text(), re.MULTILINE)
    assert [(int(number), name) for number, name, _ in rows] == [(o.value, o.name) for o in Outcome]
    assert {Outcome(int(number)) for number, _, kept in rows if kept == "yes"} == STAYS_REFUSED
