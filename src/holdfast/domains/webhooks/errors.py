"""Errors of webhooks.

Refused
x EndpointUrlInvalid     the address cannot be one that we call
x EndpointNotFound       no such endpoint of this merchant
x EndpointsTooMany       the merchant has as many as there may be
x EventTypesInvalid      a type that is never sent
x DeliveryNotFound       no such delivery of this merchant
"""

from __future__ import annotations

from holdfast.base.errors import Refused


class EndpointUrlInvalid(Refused):
    """No webhook goes there: give an absolute https (in development also http) address, no user name."""

    code = "webhook_url_invalid"


class EndpointNotFound(Refused):
    """There is no such webhook endpoint."""

    code = "webhook_endpoint_not_found"


class EndpointsTooMany(Refused):
    """There are as many webhook endpoints as a merchant may have. Delete one first."""

    code = "webhook_endpoints_too_many"


class EventTypesInvalid(Refused):
    """One of these event types is never sent. Ask for the list of event types."""

    code = "webhook_event_types_invalid"


class DeliveryNotFound(Refused):
    """There is no such webhook delivery."""

    code = "webhook_delivery_not_found"
