"""Why cards are declined, in sentences that say what to do.

https://docs.stripe.com/declines/codes. Codes that hint at theft or fraud are told like any other decline: whoever holds
the card may not be its owner.
"""

from __future__ import annotations

ANY = "The card was declined. Use another card, or ask your bank why."
SENTENCES = {
    "authentication_required": (
        "Your bank wants you to confirm this card yourself. Add it again under Payments and follow your bank's steps."
    ),
    "insufficient_funds": "There is not enough money on this card. Use another card, or choose fewer minutes.",
    "withdrawal_count_limit_exceeded": "This card's limit is reached. Use another card, or choose fewer minutes.",
    "card_velocity_exceeded": "This card's limit is reached. Use another card, or choose fewer minutes.",
    "expired_card": "This card has expired. Add another one under Payments.",
    "invalid_expiry_month": "This card's expiry date is wrong. Add it again under Payments.",
    "invalid_expiry_year": "This card's expiry date is wrong. Add it again under Payments.",
    "incorrect_cvc": "This card's security code is wrong. Add it again under Payments.",
    "invalid_cvc": "This card's security code is wrong. Add it again under Payments.",
    "incorrect_number": "This card's number is wrong. Add it again under Payments.",
    "invalid_number": "This card's number is wrong. Add it again under Payments.",
    "card_not_supported": "This card cannot be used for such payments. Use another card.",
    "currency_not_supported": "This card cannot be charged in US dollars. Use another card.",
    "transaction_not_allowed": "This card cannot be used for such payments. Use another card.",
    "processing_error": "Your bank could not process the card just now. Try again in a few minutes.",
    "issuer_not_available": "Your bank does not answer just now. Try again in a few minutes.",
    "try_again_later": "Your bank does not answer just now. Try again in a few minutes.",
    "reenter_transaction": "Your bank could not process the card just now. Try again in a few minutes.",
}


def sentence(code: str) -> str:
    """What to tell whoever pays, for a processor's code."""
    return SENTENCES.get(code, ANY)
