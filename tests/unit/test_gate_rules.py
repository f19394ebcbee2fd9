"""The gate's decision is a function of facts: each condition alone refuses, with a code of its own."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.compliance.gate import DOWN, MESSAGES, NOT_AT_BOOKING, Facts, callee_zones, decide, down
from infra.compliance.phones import Phone
from infra.compliance.quiet import Hours

BERLIN = ("Europe/Berlin",)
PHONE = Phone("+4915112345678", "DE", "mobile", False, BERLIN)
NOON = dt.datetime(2026, 6, 1, 10, 0, tzinfo=dt.UTC)
MIDNIGHT = dt.datetime(2026, 6, 1, 22, 0, tzinfo=dt.UTC)
GOOD = Facts(
    now=NOON,
    adult=True,
    consent=True,
    owned=True,
    verified=True,
    phone=PHONE,
    countries=frozenset({"DE", "US"}),
    zones=BERLIN,
    card=True,
    price=1_000_000,
    spent=2_000_000,
    cap=3_000_000,
    system_spent=5_000_000,
    system_cap=9_000_000,
)
ALONE: dict[str, dict[str, Any]] = {
    "not-adult": {"adult": False},
    "no-consent": {"consent": False},
    "number-not-yours": {"owned": False},
    "number-not-verified": {"verified": False},
    "opted-out": {"stopped": True},
    "premium-number": {"phone": dataclasses.replace(PHONE, premium=True)},
    "country-blocked": {"countries": frozenset({"US"})},
    "caller-not-ours": {"caller_ours": False},
    "quiet-hours": {"now": MIDNIGHT},
    "attempt-cap": {"attempts": 3},
    "already-on-call": {"on_call": True},
    "spend-cap": {"spent": 2_000_001},
    "no-payment-method": {"card": False},
}


def test_good_facts_allow() -> None:
    """CMB-02: otherwise the rest of this file would prove nothing."""
    decision = decide(GOOD)
    assert (decision.allowed, decision.code, decision.failing) == (True, None, ())


@pytest.mark.parametrize("code", ALONE)
def test_each_condition_alone_refuses_with_its_own_code(code: str) -> None:
    """CMB-02: number ownership, consent, do-not-call, quiet hours, attempt cap, geography, age, funds."""
    decision = decide(dataclasses.replace(GOOD, **ALONE[code]))
    assert not decision.allowed
    assert decision.code == code
    assert decision.failing == (code,)
    assert decision.message


def test_every_message_belongs_to_a_condition_that_is_tested() -> None:
    """CMB-15: a code without a message, or a condition without a test, shows here."""
    assert set(MESSAGES) == set(ALONE) | {DOWN}
    assert down().code == DOWN
    assert not down().allowed


@given(st.sets(st.sampled_from(sorted(ALONE)), min_size=1))
def test_no_condition_hides_another_and_none_is_forgiven(codes: set[str]) -> None:
    """CMB-02: any set of failing conditions refuses, and all of them are told."""
    changes: dict[str, Any] = {}
    for code in codes:
        for name, value in ALONE[code].items():
            changes[name] = value
    decision = decide(dataclasses.replace(GOOD, **changes))
    expected = set(codes)
    if "number-not-yours" in codes:  # what is nobody's has no country, no proof and no clock
        expected -= {"number-not-verified", "country-blocked", "quiet-hours"}
    assert not decision.allowed
    assert set(decision.failing) == expected
    assert decision.code == decision.failing[0]


@pytest.mark.parametrize("code", sorted(NOT_AT_BOOKING))
def test_what_may_change_by_then_is_not_asked_at_booking(code: str) -> None:
    """CMB-35: a call for next week is no attempt of today."""
    facts = dataclasses.replace(GOOD, **ALONE[code])
    assert decide(dataclasses.replace(facts, stage="book")).allowed
    assert not decide(dataclasses.replace(facts, stage="dial")).allowed


def test_money_may_be_held_for_the_next_call_during_this_one() -> None:
    """CMB-36: the hold comes five minutes before; the dial is refused if the other call still goes on."""
    facts = dataclasses.replace(GOOD, on_call=True)
    assert decide(dataclasses.replace(facts, stage="hold")).allowed
    assert decide(facts).code == "already-on-call"


def test_the_systems_cap_stops_everybody() -> None:
    """CMB-09: per user and global."""
    assert decide(dataclasses.replace(GOOD, system_spent=8_000_001)).code == "spend-cap"
    assert decide(dataclasses.replace(GOOD, system_spent=8_000_000)).allowed


def test_quiet_hours_need_the_explicit_tick_and_tell_when_they_end() -> None:
    """CMB-04: a self-requested call outside needs it."""
    refused = decide(dataclasses.replace(GOOD, now=MIDNIGHT))
    assert refused.next_at == dt.datetime(2026, 6, 2, 6, 0, tzinfo=dt.UTC)
    assert "00:00" in refused.message
    assert "08:00 to 21:00" in refused.message
    assert decide(dataclasses.replace(GOOD, now=MIDNIGHT, outside_hours=True)).allowed


def test_a_stricter_region_counts() -> None:
    """CMB-04: 20:30 is too late where calls end at eight."""
    at = dt.datetime(2026, 6, 1, 18, 30, tzinfo=dt.UTC)
    assert decide(dataclasses.replace(GOOD, now=at)).allowed
    strict = dataclasses.replace(GOOD, now=at, hours=Hours(dt.time(8), dt.time(20), "Florida"))
    assert decide(strict).code == "quiet-hours"


def test_a_number_that_cannot_be_read_any_more_is_dialled_nowhere() -> None:
    """CMB-09: what has no country is in no allowed one."""
    assert decide(dataclasses.replace(GOOD, phone=None)).code == "country-blocked"


@pytest.mark.parametrize(
    ("stored", "phone", "zones"),
    [
        ("Asia/Seoul", PHONE, ("Asia/Seoul",)),
        ("UTC", PHONE, BERLIN),
        ("UTC", None, ("UTC",)),
        ("Not/There", PHONE, BERLIN),
        ("Not/There", None, ()),
    ],
)
def test_the_stored_zone_counts_else_every_zone_of_the_number(
    stored: str, phone: Phone | None, zones: tuple[str, ...]
) -> None:
    """CMB-04: the user's stored zone is used, else the strictest intersection."""
    assert callee_zones(stored, phone) == zones
