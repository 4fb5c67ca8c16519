"""Every bound that is ours to set, with its unit and its reason.

What an operator may choose is in `platform/config.py`.
"""

from __future__ import annotations

from typing import Final

AMOUNT_MINOR_MAX: Final = 2**53 - 1
"""Largest amount and balance, minor units: every JSON client reads it exactly."""

PAYMENT_MINOR_MAX: Final = 10**13
"""Largest amount that a caller may ask to move at a time, minor units: 100 billion yuan, or 10 million of a
token with six decimals. Hundreds of them together still fit an account, so none can fill one up."""

TURNOVER_MINOR_MAX: Final = 2**61
"""Largest sum of all debits, or credits, of an account, minor units: a whole batch on top fits 64 bits."""

METADATA_KEYS_MAX: Final = 20
METADATA_KEY_CHARS_MAX: Final = 40
METADATA_VALUE_CHARS_MAX: Final = 500
"""Metadata is for the caller's own references, not a document store."""

METADATA_SEALED_CHARS_MAX: Final = 2_800
"""The longest value of metadata once it is sealed: four bytes a character, and what sealing adds."""

REFERENCE_CHARS_MAX: Final = 120
"""A merchant's own reference of a payment: an order number, not a story."""

IDEMPOTENCY_KEY_CHARS_MAX: Final = 128
"""An idempotency key: any UUID or hash fits."""

IDEMPOTENCY_KEEP_HOURS: Final = 24 * 30
"""How long an answer is kept for its key."""

BODY_BYTES_MAX: Final = 64 * 1024
BODY_DEPTH_MAX: Final = 16
"""A request body; larger or deeper is refused before it is parsed."""

PAGE_ROWS_DEFAULT: Final = 25
PAGE_ROWS_MAX: Final = 100
"""Rows of one page of a list; more are asked for by cursor."""

LINKED_TRANSFERS_MAX: Final = 16
"""Transfers in one linked chain: they succeed or fail together."""

BATCH_TRANSFERS_MAX: Final = 10_000
"""Transfers in one commit: bounds the time that the batch holds its locks."""

BATCH_ITEMS_MAX: Final = 10_000
"""Transfers in one request to `/v1/transfers/batch`: as many as one commit takes, for all or none."""

BATCH_BODY_BYTES_MAX: Final = 8 * 1024 * 1024
"""The body of such a request: 800 bytes for each transfer. Larger is refused before it is read."""

BATCHES_AT_WORK_MAX: Final = 8
BATCHES_PER_MERCHANT_MAX: Final = 4
"""Such requests at work in one process, and of one merchant: each takes up to 30 MB and 30 ms of its time."""

BATCH_SLICE_TRANSFERS: Final = 1_000
"""Transfers of such a request prepared at a stretch: other requests wait a few ms for them at most."""

OWN_ACCOUNTS_KEPT_MAX: Final = 200_000
"""Accounts that a process remembers as a merchant's own, for such requests; beyond it, it begins anew."""

IMPORT_LINE_BYTES_MAX: Final = 64 * 1024
"""One line of a file of transfers: longer is refused, and read past without keeping it."""

IMPORT_BATCH_LINES: Final = 4_096
"""Lines of such a file that are posted in one commit: half of what one takes."""

IMPORT_NAMES_KEPT_MAX: Final = 200_000
"""Names of accounts whose numbers an import remembers."""

IMPORT_PATIENCE_S: Final = 60.0
"""How long an import tries again while the ledger cannot be reached; what is posted is not posted twice."""

HISTORY_SCAN_ROWS_MAX: Final = 5_000
"""Transfers that one page of a filtered list looks at: some 20 ms, also when none of them matches."""

CLOCK_AHEAD_MS_MAX: Final = 2_000
"""By how much the clock that made an id may be ahead of the ledger's, before the id is looked up always."""

SEEN_IDS_MAX: Final = 2_000_000
"""Ids in one of the writer's two filters before the next is begun: each takes 32 MiB."""

MARK_ENTRIES: Final = 64
"""About every so many entries of an account its balance is written down: reading one adds up fewer."""

SEGMENT_TRANSFERS_MAX: Final = 2**20
"""Transfers in one segment: its indexes stay in memory and are built in seconds."""

SEGMENTS_BEHIND_MAX: Final = 2
"""Full segments whose history waits for its indexes; beyond it posting waits."""

SNAPSHOT_TRANSFERS: Final = 2**19
"""Transfers between two snapshots: a new writer reads fewer than this, in about a second."""

LEDGER_DEADLINE_S: Final = 10.0
"""Whoever hands something to the ledger is answered within this: done, refused, or unknown, ask by id."""

WRITER_LEASE_S: Final = 1.2
"""A writer that has not said so for this long counts as gone, by the database's clock."""

WRITER_RENEW_S: Final = 0.25
"""How often a writer says that it lives, and the others look."""

EXPIRE_ROWS_MAX: Final = 1000
"""Holds whose time is over that are ended in one commit."""

LANE_BATCH_UNITS_MAX: Final = 2048
"""Units in one commit: bounds how long the first of them waits for the last."""

LANE_QUEUE_UNITS_MAX: Final = 20_000
"""Units waiting for the commit lane; beyond it callers are told to come back."""

ATTEMPTS_PER_PAYMENT_MAX: Final = 6
"""Rails tried for one payment: beyond it a payer is asked, not guessed for."""

METHODS_PER_PAYMENT_MAX: Final = 20
"""Ways to pay that one payment offers: as many as a payer can keep."""

RAIL_CALL_TIMEOUT_S_MAX: Final = 60.0
"""No call to a rail waits longer; past it the outcome is unknown."""

HTTP_CONNECT_TIMEOUT_S: Final = 5.0
"""Connecting and TLS together, outbound; a host that takes longer is away, and nothing has been sent."""

HTTP_KEEPALIVE_S: Final = 4.0
"""An idle outbound connection is dropped after this: below the 5 s after which servers close theirs."""

HTTP_CONNECTIONS_MAX: Final = 64
"""Connections of one pool: one slow provider cannot use up the process."""

HTTP_RESPONSE_BYTES_MAX: Final = 1024 * 1024
"""An answer from outside; larger is not read."""

HTTP_DNS_CACHE_S: Final = 10
"""A resolved name is reused this long, so that a provider's own switch of address is followed soon."""

API_KEY_KEEP_S: Final = 5.0
"""How long a process trusts an API key that it checked: one revoked elsewhere opens nothing after this."""

PAYER_KEEP_S: Final = 5.0
"""How long a process trusts what it read of a payer's methods: one removed elsewhere goes unused then."""

INSTRUMENTS_PER_PAYER_MAX: Final = 20
"""Methods that one payer keeps: each is read with each payment."""

REQUESTS_IN_FLIGHT_MAX: Final = 1024
"""Requests that one server process works on at once; beyond it callers are told to come back in a second."""

REQUESTS_PER_MERCHANT_MAX: Final = 512
"""Of those, how many may be one merchant's, so that one surge leaves room for everybody else."""

HEADER_LINE_CHARS_MAX: Final = 4096
"""A single request header's value; longer is refused."""

IDEMPOTENCY_IN_PROGRESS_S: Final = 30.0
"""A key without an answer counts as in progress this long; then a repeat gets the state of what it made."""

ROUTING_CALL_FORGOTTEN_S: Final = 2 * RAIL_CALL_TIMEOUT_S_MAX
"""A call to a rail whose end nobody reported gives its place in the bulkhead back after so long."""

ROUTING_PROVISIONAL_MAX: Final = 100_000
"""Unknown outcomes that routing can still correct; beyond it the oldest stand as failures."""

REQUEST_BODY_TIMEOUT_S: Final = 10.0
"""A request's body arrives within this, or the connection is given up: slow senders hold nothing for long."""

WEBHOOK_ENDPOINTS_MAX: Final = 20
"""Webhook endpoints per merchant: each event is sent to every one of them."""

WEBHOOK_URL_CHARS_MAX: Final = 2048
"""A webhook's address: as long as common servers read."""

WEBHOOK_TIMEOUT_S: Final = 15.0
"""One try of a webhook, connecting included: the lower end of what Standard Webhooks asks for."""

WEBHOOK_PER_ENDPOINT_MAX: Final = 5
"""Tries in flight at one endpoint: one that hangs cannot use up a worker."""

WEBHOOK_IN_FLIGHT_MAX: Final = 64
"""Tries in flight in one worker."""

WEBHOOK_RESPONSE_CHARS_MAX: Final = 500
"""How much of an endpoint's answer is kept, for its owner to read."""

SANDBOX_SILENCE_S_MAX: Final = 300.0
"""How long the sandbox keeps a connection open without answering."""

SANDBOX_WEBHOOK_TIMEOUT_S: Final = 5.0
"""One delivery of a webhook by the sandbox."""

SANDBOX_WEBHOOK_TRIES_MAX: Final = 10
"""Deliveries of one webhook before the sandbox gives up: about 3 minutes."""

ACCESS_LOG_FLUSH_S: Final = 0.25
ACCESS_LOG_LINES_MAX: Final = 5_000
"""Access log lines kept between two writes; more than a process can serve in that time."""

PAGE_STREAM_LIFE_S: Final = 240.0
"""Longest life of one stream of events to a page; the browser then reconnects by itself."""

PAGE_STREAM_POLL_S: Final = 0.15
"""How often a stream looks whether its payment changed."""

PAGE_STREAM_TELL_S: Final = 0.5
"""How often a stream tells the running clock while nothing changes."""

PAGE_STREAM_RETRY_MS: Final = 1000
"""How long a browser waits before it reconnects to a stream."""

PAGE_STREAMS_MAX: Final = 64
"""Streams open at once per process; beyond it pages ask every few seconds instead."""

CHECKOUTS_UNDER_WAY_MAX: Final = 200
"""Payments of the shop page carried out at once per process; beyond it the page says that it is busy."""

SANDBOX_CONTROL_TIMEOUT_S: Final = 2.0
"""A call to the sandbox's control API; it is on this machine."""

RAIL_EVENT_AGE_S_MAX: Final = 300.0
"""A rail's signed message that is older than this is not believed: it may be a replay."""

BANK_EXPIRES_S: Final = 120.0
"""How long a bank transfer may take; then the bank itself refuses it and another method is free."""

BANK_CLOCK_SKEW_S: Final = 5.0
"""How far the bank's clock may differ from ours: it is told to stop this much before we stop waiting."""

SETTLEMENT_FILE_TIMEOUT_S: Final = 60.0
"""Fetching a rail's settlement file: large, and nobody waits for it."""

SETTLEMENT_PAGES_MAX: Final = 1_000
"""Pages of 100 movements fetched for one span of time; a busier span is fetched in parts."""

LEASE_MARGIN_S: Final = 6.0
"""By how much a payment's lease outlasts the longest call to a rail: the commits around that call."""

FORWARD_FRAME_BYTES_MAX: Final = 20 * 1024 * 1024
"""One call to the ledger's writer, or its answer: 10,000 transfers with 2 KB of metadata each."""

FORWARD_ROWS_MAX: Final = 4096
"""Rows, and guards, of one forwarded unit: far more than a payment writes."""

FORWARD_COLUMNS_MAX: Final = 128
"""Values of one forwarded row, and parts of a guard's key: the widest table has a third of it."""

FORWARD_ACCOUNTS_MAX: Final = 65_536
"""Accounts opened, closed or given a limit in one forwarded call."""

FORWARD_CALLS_MAX: Final = 4096
"""Calls under way on one connection to the ledger's writer, four for each request of a server process."""

FORWARD_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of calls under way on one connection: beyond it the writer reads no more, and callers are told to
come back."""

FORWARD_CONNECTIONS_MAX: Final = 128
"""Connections to the ledger's writer: one for each process, with room for those that come anew."""

FORWARD_STRANGERS_MAX: Final = 32
"""Connections to the ledger's writer that have not proven yet that they know the token."""

FORWARD_GREETING_S: Final = 1.0
"""How long that proof may take, to connect included: it is two messages on this machine or the next. Less
than a writer's lease: whoever turns to one that hangs does not lose the time to take its place."""

FORWARD_RETURN_S: Final = 0.25
"""By how much sooner the writer gives a forwarded call up than its caller: its word can still come back."""

FORWARD_CLOSE_S: Final = 2.0
"""How long a writer that closes waits for the calls under way: a few commits."""

FORWARD_SILENCE_MS_MAX: Final = 10_000
"""After so long without a sign of life from the other machine a connection to it counts as lost."""

BACKUP_STALL_S: Final = 300.0
"""A backup that gets nothing from PostgreSQL for this long has failed; a checkpoint comes first."""

BACKUP_START_S: Final = 1800.0
"""How long a restored PostgreSQL may take to read the log that makes it whole."""
