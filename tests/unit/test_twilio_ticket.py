"""Media tickets: only ours, only in time, the same in path and parameter."""

from __future__ import annotations

import re

import pytest
from aiohttp import WSCloseCode
from hypothesis import given
from hypothesis import strategies as st

from transports.twilio.errors import MalformedStream, TicketInvalid
from transports.twilio.messages import StreamStart
from transports.twilio.ticket import LIFETIME_SECONDS, PARAMETER, Ticket, Tickets

CALL = "call_0198a1b2c3d4e5f60718293a4b5c6d7e"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def start(**parameters: str) -> StreamStart:
    return StreamStart("MZ1", "CA1", "AC1", parameters)


def test_a_ticket_says_whose_media_it_lets_in() -> None:
    clock = Clock()
    ticket = Tickets("secret", clock).read(Tickets("secret", clock).issue(CALL, 7))
    assert ticket == Ticket(CALL, 7, int(clock.now) + LIFETIME_SECONDS)


@given(st.text(min_size=1, max_size=60), st.integers(0, 2**31))
def test_a_ticket_is_safe_in_a_path(call: str, serial: int) -> None:
    tickets = Tickets("secret")
    token = tickets.issue(call, serial)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    if len(token) <= 256:
        assert tickets.read(token).call_id == call


def test_a_ticket_expires() -> None:
    clock = Clock()
    tickets = Tickets("secret", clock)
    token = tickets.issue(CALL, 1)
    clock.now += LIFETIME_SECONDS
    with pytest.raises(TicketInvalid, match="expired"):
        tickets.read(token)


def test_another_secret_makes_other_tickets() -> None:
    with pytest.raises(TicketInvalid):
        Tickets("ours").read(Tickets("theirs").issue(CALL, 1))


@given(st.data())
def test_no_altered_ticket_is_read(data: st.DataObject) -> None:
    tickets = Tickets("secret")
    token = tickets.issue(CALL, 1)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda c: c != token[at]))
    altered = token[:at] + other + token[at + 1 :]
    with pytest.raises(TicketInvalid):
        tickets.read(altered)


@given(st.text(max_size=300))
def test_no_invented_ticket_is_read(text: str) -> None:
    with pytest.raises(TicketInvalid):
        Tickets("secret").read(text)


def test_path_and_parameter_must_agree() -> None:
    clock = Clock()
    tickets = Tickets("secret", clock)
    token = tickets.issue(CALL, 1)
    ticket = tickets.read(token)
    tickets.agree(ticket, start(**{PARAMETER: token}))
    clock.now += LIFETIME_SECONDS  # the upgrade was in time; the start message may be slow
    tickets.agree(ticket, start(**{PARAMETER: token}))
    for other in (start(), start(**{PARAMETER: "x"}), start(**{PARAMETER: tickets.issue(CALL, 2)})):
        with pytest.raises(MalformedStream) as refused:
            tickets.agree(ticket, other)
        assert refused.value.code == WSCloseCode.POLICY_VIOLATION
