"""Cards and how they behave: Stripe's test tokens and numbers, and what a test makes of them.

https://docs.stripe.com/testing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from .errors import DECLINES

MODES: Final = ("ok", "action", "action_off_session", "action_on_session", "action_unless_set_up")
_NETWORKS: Final = {"visa": "4", "mastercard": "5", "amex": "3", "discover": "6", "diners": "36", "jcb": "35"}


class CardError(Exception):
    """The card cannot be made so; the message says which field to change."""


@dataclass(frozen=True)
class Card:
    """A card: what is printed on it and what its bank says.

    `setup` and `hold` are a mode, a decline code, or "action+" and a decline code.
    """

    brand: str = "visa"
    last4: str = "4242"
    funding: str = "credit"
    country: str = "US"
    setup: str = "ok"
    hold: str = "ok"
    dispute: str = ""  # the reason of a dispute as soon as it is charged
    refund: str = "ok"  # "pending" succeeds a minute later, "failed" fails a minute later

    def at_setup(self) -> str:
        """ "ok", "action" or a decline code, when the card is saved while its holder is there."""
        return _verdict(self.setup, away=False, set_up=False)

    def at_hold(self, *, away: bool, set_up: bool) -> str:
        """ "ok", "action" or a decline code, when money is to be held."""
        return _verdict(self.hold, away=away, set_up=set_up)

    def after_action(self, at: str) -> str:
        """ "ok" or a decline code, once the holder has proven who they are; `at` is "setup" or "hold"."""
        mode = self.setup if at == "setup" else self.hold
        return mode.partition("+")[2] or "ok"


def _verdict(mode: str, *, away: bool, set_up: bool) -> str:
    mode, _, later = mode.partition("+")
    asks = {
        "action": True,
        "action_off_session": away,
        "action_on_session": not away,
        "action_unless_set_up": not set_up,
        "ok": False,
    }
    if mode not in asks:
        return mode
    return "action" if asks[mode] else later or "ok"


def _declines(code: str, last4: str) -> Card:
    return Card(last4=last4, setup=code, hold=code)


def _both(names: str, card: Card) -> dict[str, Card]:
    """Stripe has renamed some tokens; the old names still work there."""
    return {f"pm_card_{name}": card for name in (names, f"visa_{names}")}


TOKENS: Final[dict[str, Card]] = {
    "pm_card_visa": Card(),
    "pm_card_visa_debit": Card(last4="5556", funding="debit"),
    "pm_card_mastercard": Card("mastercard", "4444"),
    "pm_card_mastercard_debit": Card("mastercard", "3222", "debit"),
    "pm_card_mastercard_prepaid": Card("mastercard", "5100", "prepaid"),
    "pm_card_amex": Card("amex", "8431"),
    "pm_card_discover": Card("discover", "1117"),
    "pm_card_diners": Card("diners", "0004"),
    "pm_card_jcb": Card("jcb", "0505"),
    "pm_card_gb": Card(country="GB", last4="0000"),
    "pm_card_de": Card(country="DE", last4="0000"),
    "pm_card_fr": Card(country="FR", last4="0003"),
    **_both("chargeDeclined", _declines("generic_decline", "0002")),
    **_both("chargeDeclinedInsufficientFunds", _declines("insufficient_funds", "9995")),
    **_both("chargeDeclinedLostCard", _declines("lost_card", "9987")),
    **_both("chargeDeclinedStolenCard", _declines("stolen_card", "9979")),
    **_both("chargeDeclinedVelocityLimitExceeded", _declines("card_velocity_exceeded", "6975")),
    **_both("chargeDeclinedFraudulent", _declines("fraudulent", "0019")),
    **_both("chargeDeclinedExpiredCard", _declines("expired_card", "0069")),
    **_both("chargeDeclinedIncorrectCvc", _declines("incorrect_cvc", "0127")),
    **_both("chargeDeclinedProcessingError", _declines("processing_error", "0119")),
    **_both("chargeCustomerFail", Card(last4="0341", hold="generic_decline")),
    "pm_card_authenticationRequired": Card(last4="3184", setup="action", hold="action"),
    "pm_card_authenticationRequiredOnSetup": Card(last4="3155", setup="action", hold="action_unless_set_up"),
    "pm_card_authenticationRequiredSetupForOffSession": Card(last4="0446", setup="action", hold="action_on_session"),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        last4="3178", setup="action", hold="action+insufficient_funds"
    ),
    "pm_card_createDispute": Card(last4="0259", dispute="fraudulent"),
    "pm_card_createDisputeProductNotReceived": Card(last4="2685", dispute="product_not_received"),
    "pm_card_pendingRefund": Card(last4="7726", refund="pending"),
    "pm_card_refundFail": Card(last4="5126", refund="failed"),
}
# Numbers are typed into Stripe's own form in the browser; a few of them, for a page that stands in for it.
NUMBERS: Final[dict[str, str]] = {
    "4242424242424242": "pm_card_visa",
    "4000056655665556": "pm_card_visa_debit",
    "5555555555554444": "pm_card_mastercard",
    "378282246310005": "pm_card_amex",
    "6011111111111117": "pm_card_discover",
    "4000000000000002": "pm_card_chargeDeclined",
    "4000000000009995": "pm_card_chargeDeclinedInsufficientFunds",
    "4000000000009987": "pm_card_chargeDeclinedLostCard",
    "4000000000009979": "pm_card_chargeDeclinedStolenCard",
    "4000000000000069": "pm_card_chargeDeclinedExpiredCard",
    "4000000000000127": "pm_card_chargeDeclinedIncorrectCvc",
    "4000000000000119": "pm_card_chargeDeclinedProcessingError",
    "4000000000000341": "pm_card_chargeCustomerFail",
    "4000002760003184": "pm_card_authenticationRequired",
    "4000002500003155": "pm_card_authenticationRequiredOnSetup",
    "4000003800000446": "pm_card_authenticationRequiredSetupForOffSession",
    "4000008260003178": "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
    "4000000000000259": "pm_card_createDispute",
    "4000000000007726": "pm_card_pendingRefund",
    "4000000000005126": "pm_card_refundFail",
}


def changed(card: Card, data: Mapping[str, Any]) -> Card:
    """The card with other manners.

    Raises:
        CardError: a field is unknown or has no meaning.
    """
    known = [field.name for field in fields(Card)]
    for name, value in data.items():
        if name not in known:
            raise CardError(f"A card knows no {name}; it knows {', '.join(known)}.")
        if not isinstance(value, str):
            raise CardError(f"{name} is a string.")
        if name in ("setup", "hold") and not _meant(value):
            raise CardError(f"{name} is one of {', '.join(MODES)}, or a decline code: {', '.join(DECLINES)}.")
        if name == "brand" and value not in _NETWORKS:
            raise CardError(f"brand is one of {', '.join(_NETWORKS)}.")
        if name == "refund" and value not in ("ok", "pending", "failed"):
            raise CardError("refund is ok, pending or failed.")
        if name == "last4" and not (len(value) == 4 and value.isdecimal()):
            raise CardError("last4 is four digits.")
    return replace(card, **data)


def _meant(mode: str) -> bool:
    first, plus, later = mode.partition("+")
    return (first in MODES and (not plus or later in DECLINES)) or (mode in DECLINES)


def adds_up(number: str) -> bool:
    """Whether a card number's last digit is right (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in reversed(number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
