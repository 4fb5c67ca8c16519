"""Small hand-made scenarios for the tests of drills."""

from __future__ import annotations

from holdfast.drills.reading import read
from holdfast.drills.scenario import Scenario

HEAD = """
name = "tiny"
title = "A tiny drill"
source = "made by hand"
story = "Nothing happens unless a fault says so."
seed = 7
duration_s = 60
deadline_s = 20
drain_s = 3600

[traffic]
per_second = 5
"""

PAYERS = """
[[payers]]
share = 1.0
methods = ["card"]
"""

RAIL = """
[[rails]]
name = "north"
methods = ["card"]
fence = "F4"
latency = { median_ms = 200, p99_ms = 600 }
timeout_s = 4
"""

ONE_STEP = """
[[rails]]
name = "instant"
methods = ["bank"]
fence = "F1"
one_step = true
latency = { median_ms = 200, p99_ms = 600 }
timeout_s = 4
"""


def tiny(*parts: str, head: str = HEAD) -> Scenario:
    """Read a scenario made of a head and `parts`; without parts: one payer group, one rail, no fault."""
    return read(head + "".join(parts or (PAYERS, RAIL)))


def fault(kind: str, target: str = "north", *, from_s: int = 0, to_s: int = 600, **more: object) -> str:
    """Write a [[faults]] table."""
    rows = "".join(f"{name} = {value}\n" for name, value in more.items())
    return f'\n[[faults]]\ntarget = "{target}"\nkind = "{kind}"\nfrom_s = {from_s}\nto_s = {to_s}\n{rows}'
