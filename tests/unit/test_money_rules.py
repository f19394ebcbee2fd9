"""What a call costs, how declines read, what the books may not do: rules that need no database."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.database.queries import FOLDER, load
from infra.money import (
    CardDeclined,
    CardNeedsAction,
    HoldState,
    Method,
    MoneyError,
    NoPaymentMethod,
    PaymentsDown,
    Price,
    SpendCapReached,
)
from infra.money.costs import BAR_USD_MICROS, MinuteCost
from infra.money.declines import ANY, SENTENCES, sentence
from infra.money.events import digest
from infra.money.reconcile import Quiet
from infra.money.records import OVER
from scheduler.bookkeeper import RECONCILE_SECONDS
from transports.http.payments import problem_of_money

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PRICE = Price(
    id="price_call_1",
    product="call",
    since=START,
    call_usd_micros=250_000,
    minute_usd_micros=400_000,
    currency="usd",
)


@pytest.mark.parametrize(
    ("seconds", "usd_micros"),
    [
        (0, 0),
        (-1, 0),
        (0.2, 650_000),
        (59, 650_000),
        (60, 650_000),
        (60.1, 1_050_000),
        (61, 1_050_000),
        (900, 6_250_000),
    ],
)
def test_a_call_costs_a_quarter_and_forty_cents_for_each_started_minute(seconds: float, usd_micros: int) -> None:
    """CMB-51: 59 s are $0.65, 61 s $1.05, an unanswered call nothing."""
    assert PRICE.of(seconds) == usd_micros


def test_the_most_a_call_can_cost_is_the_price_of_all_its_minutes() -> None:
    """CMB-52: fifteen minutes hold $6.25."""
    assert PRICE.maximum(15) == 6_250_000
    assert PRICE.maximum(1) == PRICE.of(60)


@given(st.floats(0, 3600), st.integers(1, 60))
def test_no_call_within_its_minutes_costs_more_than_is_held(seconds: float, minutes: int) -> None:
    """CMB-53: whatever is owed fits into the hold, and is in whole cents."""
    owed = PRICE.of(min(seconds, minutes * 60))
    assert 0 <= owed <= PRICE.maximum(minutes)
    assert owed % 10_000 == 0


def test_a_card_is_good_to_the_end_of_its_month() -> None:
    card = Method(
        id="method_1",
        owner="user_1",
        provider_ref="pm_1",
        brand="visa",
        last4="4242",
        expires_month=12,
        expires_year=2026,
        is_default=True,
        created_at=START,
    )
    assert not card.expired(dt.datetime(2026, 12, 31, 23, 59, tzinfo=dt.UTC))
    assert card.expired(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))


def test_every_decline_reads_as_a_sentence_that_says_what_to_do() -> None:
    """CMB-15: nobody is shown a code, and a stolen card is told like any other."""
    for code in (*SENTENCES, "stolen_card", "fraudulent", "never heard of"):
        told = sentence(code)
        assert told.endswith(".")
        assert re.search(r"\b(use|add|try|choose|ask|follow)\b", told, re.IGNORECASE), told
    assert sentence("stolen_card") == sentence("lost_card") == ANY


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (NoPaymentMethod(), "no-payment-method", 402),
        (CardDeclined("The card was declined. Use another card.", code="do_not_honor"), "card-declined", 402),
        (CardNeedsAction(), "card-needs-action", 402),
        (SpendCapReached(), "spend-cap", 403),
        (PaymentsDown(), "payments-down", 503),
    ],
)
def test_each_way_of_not_paying_has_its_own_problem(error: MoneyError, kind: str, status: int) -> None:
    """CMB-15: a distinct message and code for each."""
    problem = problem_of_money(error)
    assert (problem.kind, problem.status) == (kind, status)
    assert problem.detail == str(error)
    assert problem.more["code"] == error.code


def test_an_error_without_words_of_its_own_says_what_it_is() -> None:
    assert str(NoPaymentMethod()).startswith("There is no card on file.")
    assert str(PaymentsDown()).startswith("Payments are not answering")
    assert CardDeclined().code == "card_declined"
    assert CardDeclined("No.", code="do_not_honor").code == "do_not_honor"


def test_nothing_in_our_queries_changes_what_is_booked() -> None:
    """COM-38: no statement updates or deletes entries; they are only added, with their transaction."""
    for path in FOLDER.glob("*.sql"):
        for name in load(path.stem):
            text = getattr(load(path.stem), name).lower()
            assert not re.search(r"(update|delete\s+from|truncate)\s+(only\s+)?ledger_", text), f"{path.name}: {name}"


def test_every_booking_of_ours_names_what_it_books() -> None:
    """COM-38: each transaction has a key made of its hold or refund, so that it cannot be booked twice."""
    booked = 0
    for noun in ("holds", "refunds"):
        for name in load(noun):
            text = getattr(load(noun), name)
            if "insert into ledger_transactions" in text:
                booked += 1
                assert re.search(r"id \|\| ':(held|captured|released|refunded|failed)'", text), name
    assert booked == 5


def test_three_states_are_the_end() -> None:
    """COM-39."""
    assert {state.value for state in OVER} == {"declined", "captured", "released"}
    assert {state.value for state in set(HoldState) - OVER} == {"intent", "held", "capturing", "releasing"}


def test_a_minute_must_cost_less_than_the_bar() -> None:
    """CMB-63: under $0.25 for a conversation minute."""
    assert MinuteCost(BAR_USD_MICROS - 1, 1, 60).within_bar
    assert not MinuteCost(BAR_USD_MICROS, 1, 60).within_bar
    assert MinuteCost(None, 0, 0).within_bar


def test_what_is_kept_of_an_event_names_nobody() -> None:
    """CMB-59: only where to look; the truth is asked for."""
    told = {
        "id": "evt_1",
        "type": "payment_method.detached",
        "created": 1,
        "livemode": False,
        "data": {
            "object": {
                "id": "pm_1",
                "object": "payment_method",
                "customer": None,
                "billing_details": {"name": "Mia", "email": "mia@example.com"},
                "card": {"last4": "4242"},
            },
            "previous_attributes": {"customer": {"id": "cus_1"}},
        },
    }
    kept = digest(told)
    assert kept["object"] == {
        "id": "pm_1",
        "object": "payment_method",
        "status": None,
        "payment_intent": None,
        "customer": "cus_1",
    }
    assert "Mia" not in repr(kept)
    assert "4242" not in repr(kept)
    assert digest({})["object"]["id"] is None


def test_whatever_is_left_unfinished_is_looked_at_within_five_minutes() -> None:
    """CMB-60: after the longest quiet there are still two runs of the reconciliation in the five minutes."""
    quiet = Quiet()
    longest = max(quiet.intent, quiet.step, quiet.call, quiet.end)
    assert longest + 2 * dt.timedelta(seconds=RECONCILE_SECONDS) < dt.timedelta(minutes=5)
