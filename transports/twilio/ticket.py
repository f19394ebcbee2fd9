"""Tickets: what lets one media stream in, once.

A ticket stands in the stream's path, because Twilio drops query strings there, and again in a `<Parameter>`,
which arrives only after the upgrade; `agree` checks that both are the same. That it is used once is the
database's business: the serial is consumed when the call is claimed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable

import msgspec
from aiohttp import WSCloseCode

from transports.twilio.errors import MalformedStream, TicketInvalid
from transports.twilio.messages import StreamStart

__all__ = ["Ticket", "TicketInvalid", "Tickets"]

PARAMETER = "ticket"
LIFETIME_SECONDS = 60  # from TwiML to upgrade; Twilio connects within a second or gives up
MAX_CHARACTERS = 256
MAC_BYTES = 20
PURPOSE = b"ringdown media ticket v1"


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Whose media it lets in: the call, the ticket's serial number, and until when (seconds since 1970)."""

    call_id: str
    serial: int
    expires_at: int


class Tickets:
    """Issues and reads tickets. Every node that shares the secret reads those of the others.

    Args:
        secret: the carrier's auth token or a secret of the deployment; a key is derived from it, so that a
        ticket
            can never pass for a webhook signature or the other way round.
        clock: seconds since 1970.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(secret.encode(), PURPOSE, "sha256")
        self._clock = clock

    def issue(self, call_id: str, serial: int, lifetime_s: float = LIFETIME_SECONDS) -> str:
        """A ticket as text that is safe in a URL path and in TwiML."""
        ticket = Ticket(call_id, serial, int(self._clock() + lifetime_s))
        body = msgspec.msgpack.encode(ticket)
        return base64.urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode()

    def read(self, token: str) -> Ticket:
        """Verify a ticket.

        Raises:
            TicketInvalid: it is not ours, was altered, or has expired.
        """
        ticket = self._signed(token)
        if self._clock() >= ticket.expires_at:
            raise TicketInvalid("it has expired")
        return ticket

    def agree(self, ticket: Ticket, start: StreamStart) -> None:
        """Check that the stream's `<Parameter>` names the same ticket as its path did.

        Expiry does not count again: the path was in time, and the start message follows at the peer's pace.

        Raises:
            MalformedStream: it does not; the socket is to be closed with the error's code.
        """
        try:
            named = self._signed(start.custom_parameters.get(PARAMETER, ""))
        except TicketInvalid as error:
            raise MalformedStream(f"the ticket parameter is invalid: {error}", WSCloseCode.POLICY_VIOLATION) from error
        if named != ticket:
            raise MalformedStream("path and parameter carry different tickets", WSCloseCode.POLICY_VIOLATION)

    def _signed(self, token: str) -> Ticket:
        if not 0 < len(token) <= MAX_CHARACTERS:
            raise TicketInvalid("it has no ticket's length")
        try:
            raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error, ValueError) as error:
            raise TicketInvalid("it is no ticket's text") from error
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise TicketInvalid("its signature is not ours")
        return msgspec.msgpack.decode(body, type=Ticket)

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:MAC_BYTES]
