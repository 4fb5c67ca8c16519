"""Making transfers of the lines of a file, each exactly once, however often the import breaks off.

A line's id follows from what is imported (`identity`) and the line's number, so that to post a line again
does nothing. It is time-ordered, since other ids cost a look-up each: the time in it is that at which the
import first came to the line's part of the file (`PART_LINES`). That time is claimed in the database before
anything of the part is posted, and whoever comes to the part again finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

from holdfast.base.clock import Clock
from holdfast.base.errors import OutcomeUnknown, Unavailable
from holdfast.base.ids import AccountId, TransferId, uuid_of
from holdfast.base.limits import CLOCK_AHEAD_MS_MAX, IMPORT_NAMES_KEPT_MAX, IMPORT_PATIENCE_S
from holdfast.domains.ledger import queries
from holdfast.domains.ledger.model import NewTransfer, Outcome, Posting, Unit
from holdfast.domains.ledger.ports import CommitLane, Ledger
from holdfast.flows.transfer import WORDS
from holdfast.platform import idempotency, seals
from holdfast.platform.db import Database, DatabaseError

PART_LINES: Final = 1 << 15
_CALLER: Final = "import"
_PAYER: Final = "payer:"
"""What names of payers' accounts begin with (`chart`); their public id follows."""
_PAUSE_S: Final = 0.5
_VERSION_7, _VARIANT = 7, 2
_TIME_AT: Final = 80
_MIXED: Final = ((1 << _TIME_AT) - 1) & ~(0xF << 76 | 0x3 << 62)
_SHAPE: Final = _VERSION_7 << 76 | _VARIANT << 62


@dataclass(frozen=True, slots=True)
class Asked:
    """What a line asks for. `debit` and `credit` are an account's number in digits, or its name."""

    number: int
    debit: str
    credit: str
    asset: str
    amount_minor: int
    id: UUID | None = None
    code: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


class Told(NamedTuple):
    """What became of a line. `existed`: it stood before this import; `why`: it was refused, and why."""

    id: TransferId | None
    existed: bool = False
    why: str = ""


def identity(digest: bytes, name: str) -> bytes:
    """Return what ids of lines follow from: what a file holds, and the name that it is imported under."""
    return blake2b(name.encode(), digest_size=16, key=digest[:64]).digest()


def line_id(identity: bytes, time_ms: int, number: int) -> TransferId:
    """Return the id of a line without one of its own."""
    mixed = int.from_bytes(blake2b(number.to_bytes(8, "big"), digest_size=16, key=identity).digest(), "big")
    return TransferId(uuid_of(time_ms << _TIME_AT | mixed & _MIXED | _SHAPE))


class Accounts:
    """Names and numbers of accounts, each looked up once; so many are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, AccountId] = {}
        self._names: dict[AccountId, str] = {}

    async def find(self, lines: Sequence[Asked]) -> None:
        """Look up the accounts that these lines name, and whose those are beside which something is said."""
        if len(self._numbers) > IMPORT_NAMES_KEPT_MAX:
            self._numbers.clear()
            self._names.clear()
        named = {name for line in lines for name in (line.debit, line.credit)}
        told = {name for line in lines if line.metadata for name in (line.debit, line.credit)}
        names = [name for name in named if not _is_number(name) and name not in self._numbers]
        numbers = [AccountId(int(name)) for name in told if _is_number(name)]
        numbers = [number for number in numbers if number not in self._names]
        if names or numbers:
            self._names |= dict.fromkeys(numbers, "")
            found = await queries.names_of(self._database, names=names, numbers=numbers)
            self._names |= found
            self._numbers |= {name: number for number, name in found.items()}

    def number(self, which: str) -> AccountId | None:
        """Return the number of an account; None when there is none of that name."""
        return AccountId(int(which)) if _is_number(which) else self._numbers.get(which)

    def subject(self, line: Asked) -> str | None:
        """Return the public id of the payer whom a line is about: the one who gives, else who gets."""
        for which in (line.debit, line.credit):
            name = self._names.get(AccountId(int(which)), "") if _is_number(which) else which
            if name.startswith(_PAYER):
                return name.removeprefix(_PAYER).partition(":")[0]
        return None


def _is_number(which: str) -> bool:
    return which.isascii() and which.isdigit()


class Importer:
    """Posts lines. `times` are the times of the parts it is at, milliseconds; it keeps them up to date."""

    def __init__(
        self,
        database: Database,
        lane: CommitLane,
        ledger: Ledger,
        clock: Clock,
        identity: bytes,
        times: dict[int, int],
    ) -> None:
        self.times = times
        self.accounts = Accounts(database)
        self._database = database
        self._lane = lane
        self._ledger = ledger
        self._clock = clock
        self._identity = identity

    async def knows(self, id_: TransferId) -> bool:
        """Tell whether a transfer is in the books."""
        found = await self._ledger.find([id_])
        return id_ in found and found[id_].outcome.moved

    async def post(self, lines: Sequence[Asked]) -> list[Told]:
        """Post lines in order, as many as one commit takes, and tell what became of each.

        Tries again for `IMPORT_PATIENCE_S`, which does no harm. Raises: `Unavailable`, `OutcomeUnknown`,
        `DatabaseError`.
        """
        until_s = self._clock.monotonic_s() + IMPORT_PATIENCE_S
        while True:
            try:
                return await self._post(lines)
            except (Unavailable, OutcomeUnknown, DatabaseError):
                if self._clock.monotonic_s() >= until_s:
                    raise
            await self._clock.sleep(_PAUSE_S)

    async def _post(self, lines: Sequence[Asked]) -> list[Told]:
        await self.accounts.find(lines)
        parts = {line.number // PART_LINES for line in lines}
        for part in sorted(parts - self.times.keys()):
            self.times[part] = await self._claimed_time(part)
        for part in [part for part in self.times if part < min(parts)]:
            del self.times[part]
        latest_ms = int(self._clock.now().timestamp() * 1000) + CLOCK_AHEAD_MS_MAX
        made = [(line, self._transfer(line, latest_ms)) for line in lines]
        wanted = [(line, one) for line, one in made if isinstance(one, NewTransfer)]
        told = iter(await self._told(await self._sealed(wanted), [line.id is not None for line, _ in wanted]))
        return [next(told) if isinstance(one, NewTransfer) else one for _, one in made]

    async def _sealed(self, wanted: Sequence[tuple[Asked, NewTransfer]]) -> list[NewTransfer]:
        """Return transfers with what is said beside them sealed for the payer whom it is about."""
        notes: list[seals.Note] = []
        places: list[int] = []
        for place, (line, one) in enumerate(wanted):
            subject = self.accounts.subject(line) if line.metadata else None
            if subject is not None:
                notes.append(seals.Note(subject, one.id, line.metadata))
                places.append(place)
        found = [one for _, one in wanted]
        for place, said in zip(
            places, await seals.seal(self._database, notes, now=self._clock.now()), strict=True
        ):
            found[place] = replace(found[place], metadata=said)
        return found

    def _transfer(self, line: Asked, latest_ms: int) -> NewTransfer | Told:
        debit, credit = self.accounts.number(line.debit), self.accounts.number(line.credit)
        if debit is None or credit is None:
            return Told(None, why=f"There is no account {(line.debit if debit is None else line.credit)!r}.")
        if line.id is not None and line.id.version == _VERSION_7 and line.id.int >> _TIME_AT > latest_ms:
            return Told(None, why="The time in the id lies ahead of now.")
        id_ = line.id or line_id(self._identity, self.times[line.number // PART_LINES], line.number)
        return NewTransfer(
            TransferId(id_), debit, credit, line.asset, line.amount_minor,
            code=line.code, metadata=line.metadata,
        )  # fmt: skip

    async def _told(self, wanted: Sequence[NewTransfer], own: Sequence[bool]) -> list[Told]:
        """Post, and tell of each; `own`: its id stood in its line."""
        postings = await self._ledger.post(wanted) if wanted else []
        refused = [p.id for p in postings if p.outcome is Outcome.ID_ALREADY_REFUSED]
        before = await self._ledger.find(refused) if refused else {}
        return [_words(p, before.get(p.id), has_id) for p, has_id in zip(postings, own, strict=True)]

    async def _claimed_time(self, part: int) -> int:
        """Return the time of a part, claimed by us now or by an earlier try. Milliseconds since 1970."""
        now = self._clock.now()
        time_ms = int(now.timestamp() * 1000)
        key = f"{self._identity.hex()}/{part}"
        claim = idempotency.claim(_CALLER, key, self._identity, str(time_ms), now)
        if (await self._lane.submit(Unit(guards=(claim,)))).status == "committed":
            return time_ms
        found = await idempotency.find(self._database, _CALLER, key)
        if found is None:  # it was forgotten between the two: so long ago was it
            return await self._claimed_time(part)
        return int(found.subject)


def _words(posting: Posting, before: Posting | None, own: bool) -> Told:
    outcome = posting.outcome
    if outcome.moved:
        return Told(posting.id, existed=own and outcome is Outcome.EXISTS)
    if before is not None:
        why = WORDS.get(before.outcome, before.outcome.name.lower())
        return Told(None, why=f"This id was refused before: {why}" if own else why)
    return Told(None, why=WORDS.get(outcome, outcome.name.lower()))
