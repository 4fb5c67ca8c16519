"""Errors as Stripe's API writes them. Source: Stripe API reference, "Errors" and "Error codes"."""

from __future__ import annotations

from typing import Any

from holdfast.sandbox.store import Doc


class StripeError(Exception):
    """An error answer. `executed`: an endpoint had begun, so the answer is kept for the idempotency key."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        executed: bool = False,
        **extra: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        self._error: dict[str, Any] = {
            "type": kind,
            "message": message,
            "code": code,
            "param": param,
            **extra,
        }

    def doc(self) -> Doc:
        """Return the body."""
        error = {name: value for name, value in self._error.items() if value is not None}
        if "code" in error:
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + str(error["code"]).replace("_", "-")
        return {"error": error}


def invalid(message: str, *, param: str | None = None, code: str | None = None) -> StripeError:
    """400: the request cannot be understood. Not kept for its key."""
    return StripeError(400, "invalid_request_error", message, code=code, param=param)


def missing(param: str) -> StripeError:
    """400: a required parameter is missing."""
    return invalid(f"Missing required param: {param}.", param=param, code="parameter_missing")


def unknown(names: list[str]) -> StripeError:
    """400: a parameter that this endpoint does not know."""
    text = "Received unknown parameter" + ("s" if len(names) > 1 else "") + ": " + ", ".join(names)
    return invalid(text, param=names[0], code="parameter_unknown")


def no_such(kind: str, object_id: str, param: str = "id") -> StripeError:
    """404: no such object."""
    return StripeError(
        404, "invalid_request_error", f"No such {kind}: '{object_id}'", code="resource_missing", param=param
    )


def unexpected_state(message: str, intent: Doc) -> StripeError:
    """400: the intent is not in a state that allows this. It carries the intent."""
    return StripeError(
        400,
        "invalid_request_error",
        message,
        code="payment_intent_unexpected_state",
        executed=True,
        payment_intent=intent,
    )
