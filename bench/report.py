"""What every benchmark ends with: a table on the screen, and the same in build/bench/NAME.json."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path("build/bench")


def report(
    name: str,
    *,
    ratios: Mapping[str, float],
    figures: Mapping[str, float | str],
    table: Sequence[tuple[str, ...]],
    notes: Sequence[str] = (),
) -> Path:
    """Print the table (first row: heading), ratios and notes; write all to build/bench/NAME.json."""
    print()
    for line in _aligned(table):
        print(line)
    print()
    for key, value in ratios.items():
        print(f"  {key} = {value:.3g}")
    for note in notes:
        print(f"  note: {note}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    target = FOLDER / f"{name}.json"
    whole = {
        "name": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "ratios": dict(ratios),
        "figures": dict(figures),
        "table": [list(row) for row in table],
        "notes": list(notes),
    }
    target.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    print(f"  written to {target}")
    return target


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    if not table:
        return []
    widths = [
        max(len(row[i]) for row in table if i < len(row)) for i in range(max(len(row) for row in table))
    ]
    lines = []
    for number, row in enumerate(table):
        cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return lines
