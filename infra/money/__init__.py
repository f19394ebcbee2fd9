"""Money: what a call may cost is held on a card before it is dialled, taken once at its end, and the rest let go.

`Money` is the one door. It is built by `infra.money.stripe.money_of(settings, pool)`, so that whoever only needs the
names here does not load a card processor's package.
"""

from infra.money.desk import Money
from infra.money.errors import (
    CardDeclined,
    CardNeedsAction,
    MoneyError,
    NoPaymentMethod,
    NoPrice,
    PaymentsDown,
    RefundRefused,
    SpendCapReached,
    UnknownHold,
    UnknownMethod,
    WrongState,
)
from infra.money.records import (
    Hold,
    HoldState,
    Line,
    Method,
    Price,
    Reconciled,
    Refund,
    Setup,
    Spend,
    Statement,
    Success,
)

__all__ = [
    "CardDeclined",
    "CardNeedsAction",
    "Hold",
    "HoldState",
    "Line",
    "Method",
    "Money",
    "MoneyError",
    "NoPaymentMethod",
    "NoPrice",
    "PaymentsDown",
    "Price",
    "Reconciled",
    "Refund",
    "RefundRefused",
    "Setup",
    "Spend",
    "SpendCapReached",
    "Statement",
    "Success",
    "UnknownHold",
    "UnknownMethod",
    "WrongState",
]
