"""What a proof says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FINDINGS_MAX: Final = 50
"""Findings that are kept; the first ones say where to look."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. `batch`: the batch where it shows, None when it shows in none."""

    batch: int | None
    words: str


@dataclass(slots=True)
class Report:
    """What was read and what was found. `head`: number and hash (hexadecimal) of the newest batch.

    `unread`: archived segments whose files were not at hand; `passed_over`: how many transfers they have.
    """

    transfers: int = 0
    batches: int = 0
    refusals: int = 0
    accounts: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    head: tuple[int, str] = (0, "")
    unread: list[int] = field(default_factory=list)
    passed_over: int = 0

    def find(self, batch: int | None, words: str) -> None:
        """Note something that does not hold."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(batch, words if batch is None else f"batch {batch}: {words}"))

    @property
    def sound(self) -> bool:
        """True when everything holds that was read."""
        return not self.findings

    @property
    def first_broken_batch(self) -> int | None:
        """The lowest batch in which something does not hold."""
        return min((f.batch for f in self.findings if f.batch is not None), default=None)
