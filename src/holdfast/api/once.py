"""`Idempotency-Key`.

A wish is carried out once, however often it is sent (draft-ietf-httpapi-idempotency-key-header).

The key is taken in the very commit that makes the first effect durable, and the answer is kept in the commit
that makes it final. A repeat with the same payload gets that answer, success or error, byte for byte, with
`Idempotent-Replayed: true`; with another payload it is refused (422); while the first is under way, 409. When
the first was cut off between the two commits, a repeat gets the present state of what the key had begun, or
has it finished.

Keys belong to a merchant, and a merchant is in one mode: the same key of two callers never meets.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from holdfast.api.context import Api, Reply, encode
from holdfast.api.errors import MerchantOverloaded, problem
from holdfast.base.errors import OutcomeUnknown, Refused, Unavailable
from holdfast.base.limits import IDEMPOTENCY_IN_PROGRESS_S, IDEMPOTENCY_KEY_CHARS_MAX
from holdfast.base.values import quick
from holdfast.domains.ledger.model import Unit
from holdfast.domains.merchants import Caller
from holdfast.domains.payments.errors import KeyClaimed
from holdfast.platform import idempotency
from holdfast.platform.unit import Guard, Write

_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class KeyMissing(Refused):
    """A request that moves money or makes something needs an Idempotency-Key header."""

    code = "idempotency_key_missing"


class KeyMalformed(Refused):
    """The Idempotency-Key is not 1 to 128 printable ASCII characters, bare or as a quoted string."""

    code = "idempotency_key_invalid"


class KeyReused(Refused):
    """The Idempotency-Key was used before for a different request."""

    code = "idempotency_key_reused"


class InProgress(Unavailable):
    """The first request with this Idempotency-Key is still under way."""

    code = "idempotency_in_progress"


def read_key(header: str | None) -> str:
    """Return the key of a header's value.

    Bare as most send it, or a structured-field string (RFC 9651 section 3.3.3).

    `"a"` and `a` are the same key. Raises: `KeyMissing`, `KeyMalformed`.
    """
    if header is None:
        raise KeyMissing
    text = header.strip(" ")
    if text[:1] == '"':
        inside = re.fullmatch(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', text)
        if inside is None:
            raise KeyMalformed
        text = re.sub(r"\\(.)", r"\1", inside[1])
    if len(text) > IDEMPOTENCY_KEY_CHARS_MAX or _KEY.fullmatch(text) is None:
        raise KeyMalformed
    return text


@quick
@dataclass(frozen=True, slots=True)
class Ticket:
    """One keyed request: whose, which key, and what it asks."""

    owner: str
    key: str
    fingerprint: bytes

    def answer(self, reply: Reply) -> Write:
        """Return the write that keeps `reply` as the answer."""
        return idempotency.answer(self.owner, self.key, reply.status, reply.body)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a keyed request is carried out.

    `do(claim, ticket)` carries it out; the claim must commit with the first effect. `resume(subject, stale)`
    is asked when the key was taken but has no answer: it returns the present state, or finishes the work, or
    raises `InProgress`. `stale` says that the claim is old enough for its first request to be dead.
    """

    do: Callable[[Guard, Ticket], Awaitable[Reply]]
    resume: Callable[[str, bool], Awaitable[Reply]]


def ticket(caller: Caller, header: str | None, operation: str, body: bytes) -> Ticket:
    """Return the ticket of a request. Raises: `KeyMissing`, `KeyMalformed`."""
    return Ticket(caller.merchant.id.hex, read_key(header), idempotency.fingerprint(operation, body))


async def once(api: Api, held: Ticket, subject: str, wish: Wish) -> Reply:
    """Carry out `wish` unless its key was used already; then answer as the first time.

    Raises: `KeyReused`, `InProgress`, `MerchantOverloaded`, and `Unavailable` and `OutcomeUnknown` of the
    work itself, which are not kept.
    """
    slot = (held.owner, held.key)
    earlier = api.under_way.get(slot)
    if earlier is not None:
        raise InProgress if earlier == held.fingerprint else KeyReused
    if api.busy.get(held.owner, 0) >= api.busy_max:
        raise MerchantOverloaded
    api.under_way[slot] = held.fingerprint
    api.busy[held.owner] = api.busy.get(held.owner, 0) + 1
    try:
        claim = idempotency.claim(held.owner, held.key, held.fingerprint, subject, api.now())
        try:
            return await wish.do(claim, held)
        except KeyClaimed:
            return await _again(api, held, wish)
        except Refused as refusal:
            return await _refuse(api, held, claim, subject, refusal, wish)
    finally:
        del api.under_way[slot]
        left = api.busy[held.owner] - 1
        if left:
            api.busy[held.owner] = left
        else:
            del api.busy[held.owner]


def _as_it_is(said: Reply) -> Reply:
    return said


def claimed_first(
    api: Api,
    held: Ticket,
    subject: str,
    work: Callable[[str, bool], Awaitable[Reply]],
    *,
    kept: Callable[[Reply], Reply] = _as_it_is,
    waits: bool = True,
) -> Wish:
    """Return the wish for work that cannot take the claim along: the key is taken in a commit before it.

    `work(subject, again)` must be safe to do again with the same subject: `again` says that an earlier try
    was cut off, so its effect may be there. `kept(answer)` is what is kept of an answer. `waits`: a repeat
    waits until the first try must be dead; False for work that may as well be done twice at a time.
    """

    async def finish(made: str, again: bool) -> Reply:
        try:
            said = await work(made, again)
        except Refused as refusal:
            written = problem(refusal)
            said = Reply(written.status, encode(written))
        try:
            await api.app.lane.submit(Unit(writes=(held.answer(kept(said)),)))
        except Unavailable as error:  # which says that nothing has moved: but the work is done
            raise OutcomeUnknown(
                "It may be done; its answer could not be kept. Send it again with the same Idempotency-Key."
            ) from error
        return said

    async def do(claim: Guard, _: Ticket) -> Reply:
        outcome = await api.app.lane.submit(Unit(guards=(claim,)))
        if outcome.status == "conflict":
            raise KeyClaimed
        return await finish(subject, again=False)

    async def resume(made: str, stale: bool) -> Reply:
        if waits and not stale:
            raise InProgress
        return await finish(made, again=True)

    return Wish(do, resume)


async def _refuse(api: Api, held: Ticket, claim: Guard, subject: str, refusal: Refused, wish: Wish) -> Reply:
    """Keep a refusal as the answer: a repeat gets the same, whatever has changed since.

    The refused work may have taken the key itself (its commit stood without its transfers): then only the
    answer is added. `subject` is this request's own, so it tells whose claim it is.
    """
    written = problem(refusal)
    refused = Reply(written.status, encode(written))
    lane = api.app.lane
    if (await lane.submit(Unit(guards=(claim,), writes=(held.answer(refused),)))).status == "committed":
        return refused
    found = await idempotency.find(api.app.database, held.owner, held.key)
    if found is not None and found.subject == subject and found.answer is None:
        await lane.submit(Unit(writes=(held.answer(refused),)))
        return refused
    return await _again(api, held, wish)


async def _again(api: Api, held: Ticket, wish: Wish) -> Reply:
    found = await idempotency.find(api.app.database, held.owner, held.key)
    if found is None:
        raise InProgress
    if found.fingerprint != held.fingerprint:
        raise KeyReused
    if found.answer is not None:
        return Reply(found.answer.status, found.answer.body, replayed=True)
    age_s = (api.now() - found.claimed_at).total_seconds()
    return await wish.resume(found.subject, age_s >= IDEMPOTENCY_IN_PROGRESS_S)
