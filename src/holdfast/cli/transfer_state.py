"""How far an import of transfers has come, kept beside the file; and the report of the lines it refused.

What is kept is never ahead of what is posted. It spares the next try the way to where this one ended, and
notices a file that has changed; that no line is posted twice does not rest on it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from holdfast.base.errors import Refused
from holdfast.cli.transfer_lines import ADDED, Format, Line

_VERSION: Final = 1


class ImportChanged(Refused):
    """The file is not the one that was begun."""

    code = "import_changed"


class State(msgspec.Struct):
    """How far an import has come: behind byte `end` and line `number`, with what became of the lines.

    `digest`: of the whole file, or of what was read so far from standard input. `last`: the transfer posted
    last. `times`: of the parts that it is at (`flows.import_transfers`). `report_bytes`: of the report of
    refused lines, of which what comes after is of a try that broke off.
    """

    digest: str
    identity: str
    options: list[str]
    version: int = _VERSION
    end: int = 0
    number: int = 0
    posted: int = 0
    existed: int = 0
    refused: int = 0
    report_bytes: int = 0
    last: str = ""
    times: dict[int, int] = {}
    done: bool = False

    @property
    def lines(self) -> int:
        """How many lines it has come past."""
        return self.posted + self.existed + self.refused

    def again(self) -> None:
        """Begin anew; only what keeps lines from being posted twice stays."""
        self.end = self.number = self.posted = self.existed = self.refused = self.report_bytes = 0
        self.last = ""
        self.done = False


def read(path: Path) -> State | None:
    """Return the state that is kept at `path`; None when there is none that can be read."""
    with suppress(FileNotFoundError, msgspec.MsgspecError):
        state = msgspec.json.decode(path.read_bytes(), type=State)
        return state if state.version == _VERSION else None
    return None


def write(path: Path, state: State) -> None:
    """Keep `state`, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(msgspec.json.encode(state) + b"\n")
    beside.replace(path)


class Report:
    """The refused lines, in the format of the file that they stood in, with line number and reason.

    It is made when there is the first. `size` is how many bytes it has.
    """

    def __init__(self, path: Path, format_: Format, columns: Sequence[str], size: int) -> None:
        self.path = path
        self.size = size
        self._format = format_
        self._columns = [*(name for name in columns if name not in ADDED), *ADDED]
        if not size:
            path.unlink(missing_ok=True)
        elif path.stat().st_size > size:
            with path.open("r+b") as file:
                file.truncate(size)

    def add(self, refused: Sequence[tuple[Line, str]]) -> None:
        """Add lines and why each was refused."""
        if not refused:
            return
        written = self._csv(refused) if self._format == "csv" else _ndjson(refused)
        with self.path.open("ab") as file:
            file.write(written)
        self.size += len(written)

    def _csv(self, refused: Sequence[tuple[Line, str]]) -> bytes:
        text = io.StringIO(newline="")
        rows = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore")
        if not self.size:
            rows.writeheader()
        for line, why in refused:
            rows.writerow({**line.fields, "line": line.number, "reason": why})
        return text.getvalue().encode("utf-8", "backslashreplace")


def _ndjson(refused: Sequence[tuple[Line, str]]) -> bytes:
    return b"".join(
        json.dumps({**line.fields, "line": line.number, "reason": why}, ensure_ascii=False).encode(
            "utf-8", "backslashreplace"
        )
        + b"\n"
        for line, why in refused
    )
