"""Webhooks: telling merchants what happened, at least once, signed per Standard Webhooks 1.0.

Owns: endpoints, deliveries owed, tries. Invariants: a message is owed once per endpoint and event; it keeps
its id in every try; a delivery ends delivered or given up, and never moves after that except by an explicit
"send again". Tables: `webhooks.endpoints`, `.deliveries`, `.tries`. Announces: nothing. Needs: whoever
sends (`flows/deliver.py`).
"""

from holdfast.domains.webhooks.model import (
    Claim,
    Delivery,
    DeliveryState,
    Endpoint,
    EndpointState,
    Owed,
    Result,
    Try,
)

__all__ = ["Claim", "Delivery", "DeliveryState", "Endpoint", "EndpointState", "Owed", "Result", "Try"]
