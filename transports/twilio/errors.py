"""What can be wrong with what comes from Twilio's side; all of it is the peer's fault, none of it ours."""

from __future__ import annotations

from aiohttp import WSCloseCode


class TwilioError(Exception):
    """Something that came in Twilio's name cannot be understood or trusted. Look at the peer, not at us."""


class MalformedStream(TwilioError):
    """The peer does not speak Media Streams: its WebSocket was closed with `code` and `reason`."""

    def __init__(self, reason: str, code: int = WSCloseCode.PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = int(code)
