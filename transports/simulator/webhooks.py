"""Requests to the server under test, signed as Twilio signs them and hurt as the faults say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

import aiohttp
from yarl import URL

from .faults import Faults
from .measures import Measures

TIMEOUT_S = 15.0
_ANSWER_BYTES = 64 * 1024  # Twilio's limit of a TwiML document


class WebhookError(Exception):
    """The server under test did not answer a webhook as it should; `code` is Twilio's number for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    text: str


def sign(token: str, url: str, params: Mapping[str, str]) -> str:
    """`X-Twilio-Signature`: HMAC-SHA1 over the full URL and the form's names and values in order of name.

    https://www.twilio.com/docs/usage/security#validating-requests
    """
    text = url + "".join(name + params[name] for name in sorted(params))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Webhooks:
    """Sends webhooks of one account."""

    def __init__(self, session: aiohttp.ClientSession, token: str, faults: Faults) -> None:
        self._session = session
        self._token = token
        self._faults = faults
        self._held: list[tuple[str, str, str, dict[str, str], Measures]] = []

    async def fetch(self, kind: str, url: str, method: str, params: dict[str, str], measures: Measures) -> Answer:
        """Ask for a document. Faults `late`, `duplicate`, `drop` and `bad_signature` apply.

        Raises:
            WebhookError: no answer in 15 s (11205), no connection (11200), or a status that is not 2xx (11200).
        """
        call = measures.sid
        if late := self._faults.strike("webhook_late", kind, call):
            await asyncio.sleep(late.moment_ms(self._faults.chance) / 1000)
        if self._faults.strike("webhook_drop", kind, call):
            measures.webhook(kind, url, 0, 0.0, params, "dropped")
            raise WebhookError(11205, f"The {kind} webhook was lost on its way.")
        if self._faults.strike("webhook_duplicate", kind, call):
            await self._send(kind, url, method, params, measures)
        answer = await self._send(kind, url, method, params, measures)
        if not 200 <= answer.status < 300:
            raise WebhookError(11200, f"{url} answered {answer.status}.")
        return answer

    async def notify(self, kind: str, url: str, method: str, params: dict[str, str], measures: Measures) -> None:
        """Send a callback whose answer does not matter. Reordering applies as well."""
        if self._faults.strike("webhook_reorder", kind, measures.sid):
            self._held.append((kind, url, method, params, measures))
            return
        with contextlib.suppress(WebhookError):  # Twilio logs it and goes on; here it is in the call's measures
            await self.fetch(kind, url, method, params, measures)
        await self.release(measures)

    async def release(self, measures: Measures) -> None:
        """Send what reordering held back for this call."""
        held = [entry for entry in self._held if entry[4] is measures]
        self._held = [entry for entry in self._held if entry[4] is not measures]
        for kind, url, method, params, _ in held:
            with contextlib.suppress(WebhookError):
                await self._send(kind, url, method, params, measures)

    def signature(self, url: str, params: Mapping[str, str], fault: str, name: str, call: str) -> str:
        """The signature of a request, wrong if the fault strikes."""
        wrong = self._faults.strike(fault, name, call)
        return sign(self._token + "-wrong" if wrong else self._token, url, params)

    async def _send(self, kind: str, url: str, method: str, params: dict[str, str], measures: Measures) -> Answer:
        if method == "GET":
            parts = urlsplit(url)
            url = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(params))))))
        form = {} if method == "GET" else params
        signature = self.signature(url, form, "webhook_bad_signature", kind, measures.sid)
        headers = {"X-Twilio-Signature": signature, "User-Agent": "TwilioProxy/1.1", "Accept": "*/*"}
        started = time.monotonic()
        status, error = 0, ""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session.request(method, URL(url, encoded=True), data=form or None, headers=headers) as response,
            ):
                status = response.status
                body = await response.read()
                return Answer(status, body[:_ANSWER_BYTES].decode("utf-8", "replace"))
        except TimeoutError as cause:
            error = f"{url} did not answer within {TIMEOUT_S:.0f} s."
            raise WebhookError(11205, error) from cause
        except (aiohttp.ClientError, OSError, ValueError) as cause:
            error = f"{url} cannot be reached: {cause}"
            raise WebhookError(11200, error) from cause
        finally:
            measures.webhook(kind, url, status, (time.monotonic() - started) * 1000, params, error)
