"""What Stripe answers when it refuses: https://docs.stripe.com/api/errors and https://docs.stripe.com/declines/codes"""

from __future__ import annotations

from typing import Any, Final

Thing = dict[str, Any]  # a resource as its JSON

# Decline code -> (error code, what the cardholder is told). A decline code that has an error code of its own bears it.
DECLINES: Final[dict[str, tuple[str, str]]] = {
    "generic_decline": ("card_declined", "Your card was declined."),
    "insufficient_funds": ("card_declined", "Your card has insufficient funds."),
    "lost_card": ("card_declined", "Your card was declined."),
    "stolen_card": ("card_declined", "Your card was declined."),
    "fraudulent": ("card_declined", "Your card was declined."),
    "do_not_honor": ("card_declined", "Your card was declined."),
    "transaction_not_allowed": ("card_declined", "Your card does not support this type of purchase."),
    "currency_not_supported": ("card_declined", "Your card does not support this currency."),
    "try_again_later": ("card_declined", "Your card was declined. Try again in a little bit."),
    "issuer_not_available": ("card_declined", "Your card was declined. Try again in a little bit."),
    "card_velocity_exceeded": ("card_declined", "Your card was declined: too many attempts, or over its limit."),
    "test_mode_live_card": ("card_declined", "Your card was declined: a real card in test mode."),
    "expired_card": ("expired_card", "Your card has expired."),
    "incorrect_cvc": ("incorrect_cvc", "Your card's security code is incorrect."),
    "incorrect_number": ("incorrect_number", "Your card number is incorrect."),
    "invalid_expiry_year": ("invalid_expiry_year", "Your card's expiration year is invalid."),
    "invalid_expiry_month": ("invalid_expiry_month", "Your card's expiration month is invalid."),
    "processing_error": ("processing_error", "An error occurred while processing your card. Try again later."),
    "authentication_required": (
        "authentication_required",
        "Your card was declined. This transaction requires authentication.",
    ),
}
_PARAMS: Final = {
    "expired_card": "exp_month",
    "incorrect_cvc": "cvc",
    "incorrect_number": "number",
    "invalid_expiry_year": "exp_year",
    "invalid_expiry_month": "exp_month",
}


class ApiError(Exception):
    """A request that Stripe refuses, as its error document tells it."""

    def __init__(self, status: int, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.more = {name: value for name, value in more.items() if value is not None}

    def body(self) -> Thing:
        """The error document."""
        error: Thing = {"type": self.kind, "message": str(self)} | self.more
        if code := self.more.get("code"):
            error["doc_url"] = f"https://docs.stripe.com/error-codes/{str(code).replace('_', '-')}"
        return {"error": error}


def invalid(
    message: str, param: str | None = None, code: str | None = None, status: int = 400, **more: Any
) -> ApiError:
    """A request that makes no sense."""
    return ApiError(status, "invalid_request_error", message, param=param, code=code, **more)


def no_such(what: str, wanted: str, param: str, status: int = 400) -> ApiError:
    """An id nobody has; 404 where the path names it, 400 where a parameter does."""
    return invalid(f"No such {what}: '{wanted}'", param, "resource_missing", status)


def unexpected_state(message: str, intent: Thing) -> ApiError:
    """An intent that cannot do this now."""
    name = str(intent["object"])
    return invalid(message, None, f"{name}_unexpected_state", 400, **{name: intent})


def declined(decline: str, **more: Any) -> ApiError:
    """A card that says no."""
    code, message = DECLINES[decline]
    return ApiError(402, "card_error", message, code=code, decline_code=decline, param=_PARAMS.get(decline), **more)


def as_payment_error(error: ApiError) -> Thing:
    """The same refusal as the intent remembers it in `last_payment_error` or `last_setup_error`."""
    kept: Thing = {name: error.more[name] for name in ("charge", "code", "decline_code", "param") if name in error.more}
    document: Thing = error.body()["error"]
    if "doc_url" in document:
        kept["doc_url"] = document["doc_url"]
    return {"type": error.kind, "message": str(error)} | kept | {"payment_method": error.more.get("payment_method")}
