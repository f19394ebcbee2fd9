"""Calls through Twilio's REST API, by the `twilio` package on the event loop.

The SDK's generated resources run on its asynchronous port with an HTTP client of ours. A thread pool was the
other way to keep the loop free; it costs a thread per call being dialled and its blocking client cannot be
cancelled. The SDK's own `AsyncTwilioHttpClient` is not used: it ignores the timeout it is built with, and
loses the headers that an error came with, `Retry-After` among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec
import structlog
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.http import AsyncHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from infra.settings import Settings
from infra.telephony.carrier import (
    CarrierBusy,
    CarrierCall,
    CarrierDown,
    CarrierRefused,
    OutcomeUnknown,
    Placement,
    answered_by,
    state_of,
)

TRIES = 3
BACKOFF_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0  # a longer Retry-After is the caller's to wait for
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
GONE = frozenset({20404})  # "resource not found"
NOT_IN_PROGRESS = frozenset({21220, 21221})  # "call is not in-progress"

log = structlog.get_logger()
T = TypeVar("T")
_token: ContextVar[str] = ContextVar("idempotency_token", default="")


class RestClient(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's HTTP port over one aiohttp session: deadlines, typed errors, a double's address if given."""

    def __init__(self, api_url: str, timeout_s: float) -> None:
        super().__init__(log, True, timeout_s)
        self._base = urlsplit(api_url) if api_url else None
        self._deadline = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._turns: deque[asyncio.Future[None]] = deque()
        self._taken = False  # this tick's turn

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """One exchange, never repeated.

        Raises:
            CarrierDown: the connection could not be made; the request was not sent.
            OutcomeUnknown: it was or may have been sent, and no answer came in time.
            CarrierBusy: 429.
        """
        await self._turn()
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._deadline)
        sent = dict(headers or {})
        if auth:
            sent["Authorization"] = aiohttp.encode_basic_auth(*auth)
        if token := _token.get():
            sent["I-Twilio-Idempotency-Token"] = token
        try:
            async with self._session.request(
                method.upper(),
                self._address(uri),
                params=_pairs(params),
                data=_pairs(data),
                headers=sent,
                allow_redirects=allow_redirects,
            ) as reply:
                text = await reply.text()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise CarrierDown(f"no connection to the carrier: {error}") from error
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise OutcomeUnknown(f"no answer from the carrier: {error!r}") from error
        if reply.status == TOO_MANY_REQUESTS:
            wait = _seconds(reply.headers.get("Retry-After"))
            raise CarrierBusy("the carrier asks to slow down", wait, _code(text))
        await self._turn()
        return Response(reply.status, text, reply.headers)

    async def _turn(self) -> None:
        """Let one request a tick of the loop go on: the SDK's part is 0.4 ms of work, fifty at once 20.

        Nobody waits who is alone, and one who waits costs no more than a tick: dials by the hundred wait here.
        """
        loop = asyncio.get_running_loop()
        if self._taken:
            waiter = loop.create_future()
            self._turns.append(waiter)
            await waiter
            return
        self._taken = True
        loop.call_soon(self._next)

    def _next(self) -> None:
        while self._turns:
            waiter = self._turns.popleft()
            if not waiter.done():
                waiter.set_result(None)
                asyncio.get_running_loop().call_soon(self._next)
                return
        self._taken = False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _address(self, uri: str) -> str:
        if self._base is None:
            return uri
        there = urlsplit(uri)
        path = self._base.path.rstrip("/") + there.path
        return urlunsplit((self._base.scheme, self._base.netloc, path, there.query, ""))


class TwilioCarrier:
    """Calls of one Twilio account.

    Args:
        api_url: where to send the SDK's requests instead, such as a simulator; empty for Twilio itself.
        timeout_s: for one request.
    """

    def __init__(self, account_sid: str, auth_token: str, *, api_url: str = "", timeout_s: float = 10.0) -> None:
        self._http = RestClient(api_url, timeout_s)
        self._client = Client(account_sid, auth_token, http_client=self._http)
        _ = self._client.calls  # the SDK loads its resources on first use: 70 ms that a live loop must not pay

    async def place(self, placement: Placement) -> CarrierCall:
        machine: dict[str, str] = {}
        if placement.machine_url:
            machine = {
                "machine_detection": "Enable",
                "async_amd": "true",
                "async_amd_status_callback": placement.machine_url,
                "async_amd_status_callback_method": "POST",
            }
        if placement.time_limit_s is not None:
            machine |= {"time_limit": placement.time_limit_s}  # type: ignore[dict-item]
        # Not repeated, by us or the client: Twilio documents creation as not idempotent, so a second request
        # after a lost reply rings a person twice. The token is sent in case Twilio honours it, which nobody
        # promises.
        restore = _token.set(placement.key)
        try:
            made = await self._client.calls.create_async(
                to=placement.to,
                from_=placement.from_number,
                url=placement.answer_url,
                method="POST",
                status_callback=placement.status_url,
                status_callback_event=["initiated", "ringing", "answered", "completed"],
                status_callback_method="POST",
                timeout=placement.ring_s,
                **machine,
            )
        except TwilioRestException as error:
            if error.status >= SERVER_ERROR:
                raise OutcomeUnknown(f"the carrier failed ({error.status}): {error.msg}") from error
            raise _refused(error) from error
        except ValueError as error:  # the reply was no JSON
            raise OutcomeUnknown(f"the carrier's answer cannot be read: {error}") from error
        finally:
            _token.reset(restore)
        if not made.sid:
            raise OutcomeUnknown("the carrier's answer has no call id")
        return _call(made)

    async def end(self, sid: str) -> None:
        try:
            await self._repeat(lambda: self._client.calls(sid).update_async(status="completed"))
        except CarrierRefused as error:
            if error.code not in GONE | NOT_IN_PROGRESS and error.status != 404:
                raise
            log.debug("carrier.call_was_over", sid=sid)

    async def redirect(self, sid: str, url: str) -> None:
        await self._repeat(lambda: self._client.calls(sid).update_async(url=url, method="POST"))

    async def get(self, sid: str) -> CarrierCall:
        return _call(await self._repeat(lambda: self._client.calls(sid).fetch_async()))

    async def list(self, to: str, since: datetime, limit: int = 50) -> tuple[CarrierCall, ...]:
        # Filtered by creation time here rather than by `StartTime` there: a call that is still queued has no
        # start time yet, and to miss it is to dial its number twice.
        found = await self._repeat(lambda: self._client.calls.list_async(to=to, limit=limit))
        calls = (_call(one) for one in found)
        whole = since.replace(microsecond=0)  # the carrier's times have no fractions
        return tuple(call for call in calls if call.created_at is None or call.created_at >= whole)

    async def close(self) -> None:
        await self._http.close()

    async def _repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask for something that may be asked twice, until it is answered or three tries have failed."""
        tries = 0
        while True:
            tries += 1
            try:
                return await ask()
            except TwilioRestException as error:
                if error.status < SERVER_ERROR:
                    raise _refused(error) from error
                failure = CarrierDown(f"the carrier failed ({error.status}): {error.msg}")
            except TwilioException as error:  # how the SDK tells that a page of a list was refused
                status = next((one.status_code for one in error.args if isinstance(one, Response)), SERVER_ERROR)
                if status < SERVER_ERROR:
                    raise CarrierRefused(str(error.args[0]), status=status) from error
                failure = CarrierDown(f"the carrier failed ({status}): {error.args[0]}")
            except CarrierDown as error:
                failure = error
            except (OutcomeUnknown, ValueError) as error:
                failure = CarrierDown(str(error))
            wait = BACKOFF_SECONDS * 2**tries * random.uniform(0.5, 1.0)
            if isinstance(failure, CarrierBusy) and failure.retry_after is not None:
                wait = failure.retry_after
            if tries >= TRIES or wait > LONGEST_WAIT_SECONDS:
                raise failure
            log.info("carrier.repeats", why=str(failure), wait_s=round(wait, 2))
            await asyncio.sleep(wait)


def _refused(error: TwilioRestException) -> CarrierRefused:
    return CarrierRefused(str(error.msg), status=error.status, code=error.code)


def _call(one: Any) -> CarrierCall:
    """The SDK's record as ours."""
    status = str(one.status)
    return CarrierCall(
        sid=one.sid,
        status=status,
        state=state_of(status),
        to=one.to or "",
        from_number=one._from or "",  # the SDK's own name for the field `from`
        direction=one.direction or "",
        created_at=one.date_created,
        started_at=one.start_time,
        ended_at=one.end_time,
        duration_s=int(one.duration) if one.duration else None,
        answered_by=answered_by(one.answered_by) if one.answered_by else None,
    )


def _pairs(fields: dict[str, object] | None) -> list[tuple[str, str]] | None:
    """Form or query fields flattened: a list becomes a repeated field, what the SDK left unset is dropped."""
    if not fields:
        return None
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(one)) for one in values if one is not None]
    return pairs


class _Error(msgspec.Struct):
    code: int | None = None


def _code(text: str) -> int | None:
    """The number of an error, in the body that tells of it."""
    with contextlib.suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text, type=_Error).code
    return None


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds; it may be a number or a date (RFC 9110 §10.2.3)."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def carrier_of(settings: Settings) -> TwilioCarrier:
    """The carrier that the settings name."""
    twilio = settings.twilio
    token = twilio.auth_token.get_secret_value()
    return TwilioCarrier(twilio.account_sid, token, api_url=twilio.api_url, timeout_s=twilio.timeout_seconds)
