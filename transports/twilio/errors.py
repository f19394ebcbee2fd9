"""What can be wrong with what comes from Twilio's side; all of it is the peer's fault, none of it ours."""

from __future__ import annotations

from aiohttp import WSCloseCode, web


class TwilioError(Exception):
    """Something that came in Twilio's name cannot be understood or trusted. Look at the peer, not at us."""


class MalformedStream(TwilioError):
    """The peer does not speak Media Streams: its WebSocket was closed with `code` and `reason`."""

    def __init__(self, reason: str, code: int = WSCloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = int(code)


class TicketInvalid(TwilioError):
    """The media ticket was not issued by us, was tampered with or has expired; ask for new TwiML."""


class ForgedRequest(web.HTTPForbidden, TwilioError):
    """The request lacks Twilio's signature for its address; check TWILIO_AUTH_TOKEN and NODE_PUBLIC_URL."""

    def __init__(self, why: str) -> None:
        super().__init__(text=f"Not signed by the carrier: {why}.")
