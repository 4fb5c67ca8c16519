"""What goes wrong, as the outside sees it: ONE table from stable code to status, title and what to do.

Answers are problem details (RFC 9457, `application/problem+json`). Every error of the system that can reach
the edge has its line here, and a test finds those that do not. What has no line is answered by the line of
its family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from holdfast.base.errors import Broken, HoldfastError, OutcomeUnknown, Refused, Unavailable

PROBLEM_TYPE: Final = "/problems/"
"""A problem's `type` is this path and its code: a page that explains it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table. `remedy` is what the caller can do."""

    status: int
    title: str
    remedy: str


_FIX: Final = "Correct the request; repeating it unchanged gives the same answer."
_OPERATOR: Final = (
    "Nothing for you to do: an operator sees it. Ask for the state of what you sent before repeating."
)
_SETUP: Final = "An operator corrects the setting that the message names."
_LOOK: Final = "Check the id, and that the key is of the same merchant and mode (test or live)."
_STATE: Final = "Ask for its present state and act on that."
_SAME_KEY: Final = "Repeat it with the same Idempotency-Key, which is safe. Never repeat it with a new key."
_OTHER_ID: Final = "Give the next try an id of its own."
_FUND: Final = "Put money there first; the next try needs an id of its own."
_AGAIN: Final = "Repeat it with the same Idempotency-Key after the time in Retry-After."

TABLE: Final[dict[str, Line]] = {
    # Families: what has no line of its own.
    "error": Line(500, "Something went wrong", _OPERATOR),
    "refused": Line(422, "Refused", _FIX),
    "unavailable": Line(503, "Not available right now", _AGAIN),
    "outcome_unknown": Line(503, "The outcome is not known yet", _SAME_KEY),
    "broken": Line(500, "An invariant does not hold", _OPERATOR),
    # The request itself.
    "request_invalid": Line(400, "The request is not valid", _FIX),
    "body_too_large": Line(413, "The body is too large", "Send less; see the limit in the message."),
    "body_too_deep": Line(400, "The body is nested too deeply", _FIX),
    "body_malformed": Line(400, "The body is not JSON", _FIX),
    "content_type_unsupported": Line(415, "Wrong content type", "Send Content-Type: application/json."),
    "header_invalid": Line(400, "A header is not valid", _FIX),
    "not_found": Line(404, "There is nothing here", "Check the path; /openapi.json lists what there is."),
    "method_not_allowed": Line(405, "Wrong method", "Use a method that the Allow header names."),
    "cursor_invalid": Line(
        400, "The cursor is not valid", "Use an id from the page before as starting_after."
    ),
    "overloaded": Line(503, "Too many requests at once", _AGAIN),
    "merchant_overloaded": Line(429, "Too many of your requests at once", _AGAIN),
    "rail_event_invalid": Line(400, "The rail's message is not genuine", "Check the rail's webhook secret."),
    "rail_unknown": Line(404, "There is no such rail", "GET /v1/rails lists them."),
    # Keys and rights.
    "api_key_missing": Line(401, "An API key is needed", "Send Authorization: Bearer and a secret key."),
    "api_key_invalid": Line(401, "The API key is not valid", "Use a key that is in force."),
    "right_missing": Line(403, "This key may not do that", "Use a key whose role includes it."),
    # Idempotency.
    "idempotency_key_missing": Line(
        400,
        "An Idempotency-Key is needed",
        "Send a fresh random one (a UUID) with each new wish, the same with repeats.",
    ),
    "idempotency_key_invalid": Line(
        400, "The Idempotency-Key is not valid", "Use 1 to 128 printable ASCII characters."
    ),
    "idempotency_key_reused": Line(422, "The Idempotency-Key belongs to another request", "Use a fresh key."),
    "idempotency_in_progress": Line(409, "The first request with this key is under way", _AGAIN),
    # Values.
    "amount_invalid": Line(400, "The amount is not valid", _FIX),
    "asset_unknown": Line(400, "There is no such asset", "GET /v1/assets lists them with their scale."),
    "id_invalid": Line(404, "There is no such thing", _LOOK),
    # Merchants, payers, instruments.
    "merchant_not_found": Line(404, "There is no such merchant", _LOOK),
    "merchant_invalid": Line(400, "The merchant's details are not valid", _FIX),
    "payer_not_found": Line(404, "There is no such payer", _LOOK),
    "payer_invalid": Line(400, "The payer's details are not valid", _FIX),
    "instrument_not_found": Line(404, "There is no such instrument", _LOOK),
    "instrument_invalid": Line(400, "The instrument's details are not valid", _FIX),
    "card_number_refused": Line(
        400, "Card numbers are not taken here", "Have the card provider make a token."
    ),
    "too_many_instruments": Line(409, "The payer has too many instruments", "Remove one first."),
    # Payments.
    "payment_not_found": Line(404, "There is no such payment", _LOOK),
    "payment_invalid": Line(422, "The payment makes no sense as asked", _FIX),
    "no_way_to_pay": Line(422, "None of these methods can be used here", "Offer the payer another method."),
    "payment_failed": Line(
        402, "The payment failed", "Nothing was kept. Offer another method, with a fresh key."
    ),
    "payment_state_wrong": Line(409, "The payment's state does not allow that", _STATE),
    "capture_too_much": Line(422, "More than is held", "Capture at most what is held."),
    "refund_too_much": Line(
        422, "More than is left to refund", "Refund at most what is left of the capture."
    ),
    "refund_not_funded": Line(
        402, "Your balance does not cover the refund", "Top up your balance, then use a fresh key."
    ),
    "idempotency_key_claimed": Line(409, "The Idempotency-Key was used already", _AGAIN),
    "transfer_refused": Line(
        422, "The transfer was refused", "See the reason in the message; nothing has moved."
    ),
    "batch_unfinished": Line(503, "Not all of the batch is made yet", _SAME_KEY),
    "linked_transfer_failed": Line(
        422, "Another transfer of the batch was refused", "Correct that one; all or none was asked for."
    ),
    "exists_with_different_content": Line(422, "The id was used for another transfer", _OTHER_ID),
    "id_already_refused": Line(422, "A transfer with this id was refused before", _OTHER_ID),
    "transfer_id_ahead": Line(
        422, "The time in the transfer's id lies ahead", "Set the clock of the machine that makes your ids."
    ),
    "accounts_must_differ": Line(422, "Source and destination are the same", _FIX),
    "debit_account_not_found": Line(422, "There is no account to take the money from", _LOOK),
    "credit_account_not_found": Line(422, "There is no account to put the money into", _LOOK),
    "assets_differ": Line(422, "The accounts hold different assets", _FIX),
    "account_closed": Line(422, "An account is closed", "Use another account."),
    "exceeds_credits": Line(422, "There is not enough money in the account", _FUND),
    "exceeds_debits": Line(422, "The receiving account takes no more", "Move less, or elsewhere."),
    "balance_overflow": Line(422, "An account has no room for so much", "Move less, or elsewhere."),
    "payment_busy": Line(503, "The payment is being changed right now", _AGAIN),
    "booking_refused": Line(503, "The ledger did not take it in", _OPERATOR),
    # The ledger.
    "account_exists": Line(409, "The account belongs to another purpose", _OPERATOR),
    "account_invalid": Line(422, "The account is not valid", _FIX),
    "ledger_account_missing": Line(404, "There is no such account", _LOOK),
    "batch_too_large": Line(422, "Too many transfers at once", "Send them in several requests."),
    "chain_too_long": Line(422, "Too many linked transfers", "Link fewer."),
    "metadata_too_large": Line(400, "The metadata is too large", _FIX),
    "transfer_invalid": Line(422, "The transfer is not valid", _FIX),
    "ledger_transfer_missing": Line(404, "There is no such transfer", _LOOK),
    "root_not_reached": Line(422, "There is no root over so many batches", "Ask for an older root."),
    "receipt_unreadable": Line(400, "The document is no receipt", _FIX),
    "receipt_false": Line(422, "The receipt proves nothing", "Ask whoever gave it for one that does."),
    "root_unknown": Line(422, "The receipt's root was not published", "Compare it with more roots."),
    "history_archived": Line(
        422, "That part of the history is archived", "Ask for a later moment; an operator has the archive."
    ),
    "archive_refused": Line(422, "That cannot be archived yet", _OPERATOR),
    "archive_unreadable": Line(422, "The archive file cannot be read", _OPERATOR),
    "lane_full": Line(503, "Too many commits are waiting", _AGAIN),
    "writer_away": Line(503, "The ledger's writer cannot be reached", _AGAIN),
    "commit_unknown": Line(503, "The outcome of the commit is not known yet", _SAME_KEY),
    "write_rejected": Line(500, "A row breaks a constraint", _OPERATOR),
    # Webhooks.
    "webhook_url_invalid": Line(400, "No webhook can be sent there", "Give a public https address."),
    "webhook_endpoint_not_found": Line(404, "There is no such webhook endpoint", _LOOK),
    "webhook_endpoints_too_many": Line(409, "There are too many webhook endpoints", "Delete one first."),
    "webhook_event_types_invalid": Line(
        400, "An event type is never sent", "GET /v1/event_types lists them."
    ),
    "webhook_delivery_not_found": Line(404, "There is no such webhook delivery", _LOOK),
    # Machinery.
    "url_invalid": Line(400, "The address is not valid", _FIX),
    "not_sent": Line(503, "The other side could not be reached", _AGAIN),
    "address_refused": Line(503, "The address may not be called from here", _SETUP),
    "no_answer": Line(503, "The other side has not answered", _SAME_KEY),
    "settlement_file_invalid": Line(503, "The settlement file cannot be read", _OPERATOR),
    "no_database": Line(503, "No database is configured", _SETUP),
    "schema_too_old": Line(503, "The database's schema is too old", _SETUP),
    "port_taken": Line(500, "The port is taken", _SETUP),
    "data_folder_in_use": Line(500, "The data folder is in use", _SETUP),
    "data_folder_foreign": Line(500, "The data folder is of another version", _SETUP),
    "program_not_started": Line(503, "A program did not start", _SETUP),
    "demo_refused": Line(403, "No demonstration data in production", _SETUP),
    "database_unavailable": Line(503, "The database cannot be reached", _AGAIN),
    "config_invalid": Line(500, "The configuration is not valid", _SETUP),
    "data_folder_unusable": Line(500, "The data folder cannot be used", _SETUP),
    "postgres_not_started": Line(503, "The database did not start", _SETUP),
    "backup_failed": Line(503, "The backup could not be made or restored", _SETUP),
    "backup_unusable": Line(422, "It is no whole backup", _OPERATOR),
    "backup_foreign": Line(422, "The backup is of another version", _OPERATOR),
    "backup_place_taken": Line(422, "Something is there already", _OPERATOR),
    "backup_elsewhere": Line(422, "The database is backed up by its own means", _OPERATOR),
    "migration_changed": Line(500, "A migration was changed", _SETUP),
    "migration_blocked": Line(503, "A migration could not get its locks", _SETUP),
}

_FAMILIES: Final[tuple[tuple[type[HoldfastError], str], ...]] = (
    (Refused, "refused"),
    (Unavailable, "unavailable"),
    (OutcomeUnknown, "outcome_unknown"),
    (Broken, "broken"),
)


class RequestInvalid(Refused):
    """The request is not valid."""

    code = "request_invalid"


class HeaderInvalid(Refused):
    """A header of the request is not valid."""

    code = "header_invalid"


class NotFound(Refused):
    """There is nothing at this path."""

    code = "not_found"


class MethodNotAllowed(Refused):
    """Here is something, but not for this method."""

    code = "method_not_allowed"


class Overloaded(Unavailable):
    """The server has as many requests as it can work on. Nothing has moved; come back shortly."""

    code = "overloaded"


class MerchantOverloaded(Unavailable):
    """The merchant has as many requests under way as one may have. Nothing has moved; come back shortly."""

    code = "merchant_overloaded"


class RailUnknown(Refused):
    """There is no rail of that name."""

    code = "rail_unknown"


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem as it is answered (RFC 9457).

    `code` is stable; `remedy` says what to do; `facts` depend on the code. `request_id` is absent where the
    answer was kept for its Idempotency-Key, since a repeat gets the same bytes, and outside /v1/: there the
    header X-Request-Id, which every answer has, tells it.
    """

    type: str
    title: str
    status: int
    code: str
    remedy: str
    detail: str = ""
    request_id: str = ""
    retry_after_s: float = 0.0
    facts: dict[str, Any] = {}


def line_of(error: HoldfastError) -> Line:
    """Return the table's line for `error`: its code's own or that of its family."""
    line = TABLE.get(error.code)
    if line is not None:
        return line
    for family, code in _FAMILIES:
        if isinstance(error, family):
            return TABLE[code]
    return TABLE["error"]


def problem(error: HoldfastError, request_id: str = "") -> Problem:
    """Write `error` as a problem.

    What an invariant that does not hold says stays inside: only its code goes out.
    """
    line = line_of(error)
    hidden = line.status == 500
    return Problem(
        type=PROBLEM_TYPE + error.code,
        title=line.title,
        status=line.status,
        code=error.code,
        remedy=line.remedy,
        detail="" if hidden else " ".join(error.message.split()),
        request_id=request_id,
        retry_after_s=error.retry_after_s if isinstance(error, Unavailable) else 0.0,
        facts={} if hidden else _plain(error.facts),
    )


def _plain(facts: Mapping[str, object]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, int | str | bool | None) else str(value)
        for key, value in facts.items()
    }


UNEXPECTED: Final = Line(500, "Something went wrong", _OPERATOR)


def unexpected(request_id: str) -> Problem:
    """Write the problem for an error that nobody foresaw."""
    return Problem(
        type=PROBLEM_TYPE + "error",
        title=UNEXPECTED.title,
        status=500,
        code="error",
        remedy=UNEXPECTED.remedy,
        request_id=request_id,
    )
