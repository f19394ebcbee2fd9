"""What can go wrong with money. Every error carries a sentence that its payer can act on."""

from __future__ import annotations


class MoneyError(Exception):
    """Money could not be moved as asked. `str()` is a sentence for the person who pays; `code` is for programs."""

    code = "money"

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message or self.__doc__ or "")
        if code:
            self.code = code


class NoPaymentMethod(MoneyError):
    """There is no card on file. Add one under Payments, then call again."""

    code = "no_payment_method"


class CardDeclined(MoneyError):
    """The card was declined. Use another card, or ask your bank why."""

    code = "card_declined"


class CardNeedsAction(MoneyError):
    """Your bank wants you to confirm this card yourself. Add it again under Payments and follow your bank's steps."""

    code = "authentication_required"


class PaymentsDown(MoneyError):
    """Payments are not answering just now. Nothing was charged for this; try again in a minute."""

    code = "payments_down"


class SpendCapReached(MoneyError):
    """The spending limit of the day is reached. Try again tomorrow, or ask support to raise it.

    `system`: the whole service's limit was reached, not the person's own.
    """

    code = "spend_cap"

    def __init__(self, message: str = "", *, system: bool = False) -> None:
        super().__init__(message or "Today's spending limit is reached. Try again tomorrow or ask support to raise it.")
        self.system = system


class UnknownHold(MoneyError):
    """There is no such hold."""

    code = "unknown_hold"


class UnknownMethod(MoneyError):
    """There is no such card on file."""

    code = "unknown_method"


class WrongState(MoneyError):
    """The hold is no longer in a state that allows this."""

    code = "wrong_state"


class RefundRefused(MoneyError):
    """This cannot be refunded: more than was paid, outside the policy, or nothing was charged."""

    code = "refund_refused"


class NoPrice(MoneyError):
    """No price is in force at that time."""

    code = "no_price"
