"""The nouns of webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from holdfast.base.ids import EndpointId
from holdfast.base.secret import Secret

EndpointState = Literal["enabled", "disabled", "deleted"]
DeliveryState = Literal["owed", "delivered", "given_up"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a merchant wants to be told. No `event_types`: all of them."""

    id: EndpointId
    owner: UUID
    url: str
    description: str
    event_types: tuple[str, ...]
    secret: Secret
    previous_secret: Secret | None
    previous_secret_until: datetime | None
    state: EndpointState
    disabled_reason: str
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Owed:
    """A message to be owed to every endpoint of `owner` that wants `event_type`.

    `id` is its `webhook-id` for ever.
    """

    id: str
    owner: UUID
    event_type: str
    body: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message owed to one endpoint, as it stands."""

    id: UUID
    endpoint_id: EndpointId
    message_id: str
    event_type: str
    body: str
    state: DeliveryState
    tries: int
    next_at: datetime
    last_status: int | None
    last_error: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Try:
    """One request that was made. `status` is None when no answer came."""

    number: int
    at: datetime
    status: int | None
    error: str
    duration_ms: int
    response: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this worker may try now: try `number`, on step `rung` of the ladder, both from 1.

    `fence` proves that the lease is still ours.
    """

    delivery_id: UUID
    endpoint_id: EndpointId
    url: str
    secrets: tuple[Secret, ...]
    message_id: str
    body: str
    number: int
    rung: int
    fence: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a try brought. `retry_after_s` is what the endpoint asked for, if it did."""

    status: int | None
    error: str
    duration_ms: int
    response: str
    retry_after_s: float | None = None
