"""Every bound that is ours to set, with its unit and its reason. What an operator may choose is in `platform/config.py`."""

from __future__ import annotations

from typing import Final

AMOUNT_MINOR_MAX: Final = 2**53 - 1
"""Largest amount and balance, minor units: every JSON client reads it exactly."""

METADATA_KEYS_MAX: Final = 20
METADATA_KEY_CHARS_MAX: Final = 40
METADATA_VALUE_CHARS_MAX: Final = 500
"""Metadata is for the caller's own references, not a document store."""

REFERENCE_CHARS_MAX: Final = 120
IDEMPOTENCY_KEY_CHARS_MAX: Final = 128
IDEMPOTENCY_KEEP_HOURS: Final = 24 * 30
"""How long an answer is kept for its key."""

BODY_BYTES_MAX: Final = 64 * 1024
BODY_DEPTH_MAX: Final = 16
"""A request body; larger or deeper is refused before it is parsed."""

PAGE_ROWS_DEFAULT: Final = 25
PAGE_ROWS_MAX: Final = 100

LINKED_TRANSFERS_MAX: Final = 16
"""Transfers in one linked chain: they succeed or fail together."""

BATCH_TRANSFERS_MAX: Final = 8192
"""Transfers in one commit: bounds the time that the batch holds its locks."""

LANE_QUEUE_UNITS_MAX: Final = 20_000
"""Units waiting for the commit lane; beyond it callers are told to come back."""

ATTEMPTS_PER_PAYMENT_MAX: Final = 6
"""Rails tried for one payment: beyond it a payer is asked, not guessed for."""

RAIL_CALL_TIMEOUT_S_MAX: Final = 60.0
"""No call to a rail waits longer; past it the outcome is unknown."""

LEDGER_DB_STATEMENT_TIMEOUT_S: Final = 10.0
