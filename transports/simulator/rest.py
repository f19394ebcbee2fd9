"""Twilio's REST calls resource, API 2010-04-01: https://www.twilio.com/docs/voice/api/call-resource"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from multidict import MultiDictProxy

from .calls import FINAL, Call, Detection, Instructions

if TYPE_CHECKING:
    from .network import Network

_PREFIX = "/2010-04-01/Accounts/{account}/Calls"
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_EVENTS = ("initiated", "ringing", "answered", "completed")
_Handler = Callable[["Network", web.Request], Awaitable[web.Response]]


class RestError(Exception):
    """A request that Twilio refuses, with its HTTP status and error number."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def mount(app: web.Application, network: Network) -> None:
    """Add the resource to an application."""
    routes: tuple[tuple[str, str, _Handler], ...] = (
        ("POST", _PREFIX + ".json", _create),
        ("GET", _PREFIX + ".json", _list),
        ("GET", _PREFIX + "/{call}.json", _fetch),
        ("POST", _PREFIX + "/{call}.json", _update),
        ("DELETE", _PREFIX + "/{call}.json", _delete),
    )
    for method, path, handler in routes:
        app.router.add_route(method, path, _guarded(network, handler))


def _guarded(network: Network, handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        name = f"{request.method} {handler.__name__.strip('_')}"
        try:
            _authenticate(network, request)
            if network.faults.strike("rest_too_many", name):
                raise RestError(429, 20429, "Too Many Requests")
            if fault := network.faults.strike("rest_error", name):
                raise RestError(fault.status, 20500, "An internal server error has occurred")
            response = await handler(network, request)
        except RestError as error:
            return _refusal(error)
        if network.faults.strike("rest_lost_reply", name) and request.transport:
            request.transport.abort()
        return response

    return guarded


def _refusal(error: RestError) -> web.Response:
    more = f"https://www.twilio.com/docs/errors/{error.code}"
    body = {"code": error.code, "message": str(error), "more_info": more, "status": error.status}
    headers = {"Retry-After": "1"} if error.status == 429 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
    return web.json_response(body, status=error.status, headers=headers)


def _authenticate(network: Network, request: web.Request) -> None:
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    expected = f"{network.config.account_sid}:{network.config.auth_token}"
    try:
        given = base64.b64decode(credentials, validate=True)
    except binascii.Error:
        given = b""
    if kind.lower() != "basic" or not hmac.compare_digest(given, expected.encode()):
        raise RestError(401, 20003, "Authenticate")
    if request.match_info["account"] != network.config.account_sid:
        raise _missing(request)


def _missing(request: web.Request) -> RestError:
    return RestError(404, 20404, f"The requested resource {request.path} was not found")


def _call(network: Network, request: web.Request) -> Call:
    call = network.calls.get(request.match_info["call"])
    if call is None:
        raise _missing(request)
    return call


async def _create(network: Network, request: web.Request) -> web.Response:
    form = await _form(request)
    to, from_ = form.get("To", ""), form.get("From", "")
    if not to:
        raise RestError(400, 21201, "No 'To' number is specified")
    if not from_:
        raise RestError(400, 21213, "No 'From' number is specified")
    if not _E164.fullmatch(to):
        raise RestError(400, 21211, f"The phone number you are attempting to call, {to}, is not valid.")
    if not _E164.fullmatch(from_):
        raise RestError(400, 21212, f"The source phone number provided, {from_}, is not a valid phone number.")
    if not form.get("Url") and not form.get("Twiml"):
        raise RestError(400, 21205, "Url parameter is required.")
    call = network.create(to, from_, _instructions(form), _detection(form))
    return web.json_response(resource(network, call), status=201)


def _instructions(form: MultiDictProxy[str]) -> Instructions:
    events = [name for value in form.getall("StatusCallbackEvent", []) for name in value.split()]
    if strange := set(events) - set(_EVENTS):
        raise RestError(400, 21626, f"Invalid StatusCallbackEvent {', '.join(sorted(strange))}")
    return Instructions(
        url=_url(form, "Url", 21205),
        method=_method(form, "Method"),
        document=form.get("Twiml", ""),
        status_url=_url(form, "StatusCallback", 21609),
        status_method=_method(form, "StatusCallbackMethod"),
        status_events=tuple(events) or ("completed",),
        ring_s=_seconds(form, "Timeout", 60, 600),
        limit_s=_seconds(form, "TimeLimit", 14_400, 86_400),
    )


def _detection(form: MultiDictProxy[str]) -> Detection:
    mode = form.get("MachineDetection", "")
    if mode and mode not in ("Enable", "DetectMessageEnd"):
        raise RestError(400, 20001, "MachineDetection is Enable or DetectMessageEnd")
    return Detection(
        mode=mode,
        asynchronous=form.get("AsyncAmd", "").lower() == "true",
        url=_url(form, "AsyncAmdStatusCallback", 21609),
        method=_method(form, "AsyncAmdStatusCallbackMethod"),
    )


async def _fetch(network: Network, request: web.Request) -> web.Response:
    return web.json_response(resource(network, _call(network, request)))


async def _update(network: Network, request: web.Request) -> web.Response:
    call = _call(network, request)
    form = await _form(request)
    status = form.get("Status", "")
    if status and status not in ("completed", "canceled"):
        raise RestError(400, 21218, f"Invalid status {status!r}: completed or canceled")
    if status == "canceled" and call.status not in ("queued", "ringing", *FINAL):
        raise RestError(400, 21220, "Call is not ringing. Cannot cancel.")
    if status == "completed" and not call.over:
        call.end("completed" if call.status == "in-progress" else "canceled")
    elif status == "canceled" and not call.over:
        call.end("canceled")
    elif form.get("Url") or form.get("Twiml"):
        if call.status != "in-progress":
            raise RestError(400, 21220, "Call is not in-progress. Cannot redirect.")
        call.redirect(_url(form, "Url", 21205), _method(form, "Method"), form.get("Twiml", ""))
    return web.json_response(resource(network, call))


async def _delete(network: Network, request: web.Request) -> web.Response:
    call = _call(network, request)
    if not call.over:
        raise RestError(400, 20009, "Cannot delete this resource because it is in progress.")
    del network.calls[call.sid]
    return web.Response(status=204)


async def _list(network: Network, request: web.Request) -> web.Response:
    query = request.query
    found = [call for call in reversed(network.calls.values()) if _wanted(call, query)]
    size = int(_seconds(query, "PageSize", 50, 1000)) or 50
    page = int(_seconds(query, "Page", 0, 1_000_000))
    base = f"/2010-04-01/Accounts/{network.config.account_sid}/Calls.json"
    kept = [(name, value) for name, value in query.items() if name not in ("Page", "PageSize", "PageToken")]

    def uri(number: int) -> str:
        return f"{base}?{urlencode([*kept, ('PageSize', size), ('Page', number)])}"

    shown = found[page * size : (page + 1) * size]
    return web.json_response(
        {
            "first_page_uri": uri(0),
            "next_page_uri": uri(page + 1) if (page + 1) * size < len(found) else None,
            "previous_page_uri": uri(page - 1) if page else None,
            "uri": uri(page),
            "page": page,
            "page_size": size,
            "start": page * size,
            "end": page * size + max(0, len(shown) - 1),
            "calls": [resource(network, call) for call in shown],
        }
    )


def _wanted(call: Call, query: Mapping[str, str]) -> bool:
    if query.get("To", call.to) != call.to or query.get("From", call.from_) != call.from_:
        return False
    if query.get("Status", call.status) != call.status:
        return False
    for name, moment in (("StartTime", call.started_at), ("EndTime", call.ended_at)):
        for sign in ("", "<", ">"):
            # the bound of "StartTime>=x" arrives as StartTime> = x; a bare date without a sign means that day
            value = query.get(name + sign)
            if value is not None and not _within(moment, sign, value):
                return False
    return True


def _within(moment: datetime | None, sign: str, value: str) -> bool:
    if moment is None:
        return False
    try:
        bound = datetime.fromisoformat(value)
    except ValueError as error:
        raise RestError(400, 20001, f"{value!r} is no date") from error
    bound = bound.replace(tzinfo=bound.tzinfo or UTC)
    if sign == "<":
        return moment <= bound
    if sign == ">":
        return moment >= bound
    return moment.date() == bound.date()


async def _form(request: web.Request) -> MultiDictProxy[str]:
    return await request.post()  # type: ignore[return-value]  # the API takes no files


def _url(form: Mapping[str, str], name: str, code: int) -> str:
    url = form.get(name, "")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise RestError(400, code, f"{name} is not a valid URL: {url}")
    return url


def _method(form: Mapping[str, str], name: str) -> str:
    method = form.get(name, "POST").upper()
    if method not in ("GET", "POST"):
        raise RestError(400, 20001, f"{name} is GET or POST")
    return method


def _seconds(form: Mapping[str, str], name: str, default: int, most: int) -> float:
    try:
        return min(max(0, int(form.get(name, default))), most)
    except ValueError as error:
        raise RestError(400, 20001, f"{name} is a whole number") from error


def resource(network: Network, call: Call) -> dict[str, Any]:
    """The call as Twilio describes it."""

    def stamp(moment: datetime | None) -> str | None:
        return None if moment is None else format_datetime(moment.replace(microsecond=0))

    account = network.config.account_sid
    path = f"/2010-04-01/Accounts/{account}/Calls/{call.sid}"
    subresources = ("events", "notifications", "recordings", "streams", "transcriptions")
    return {
        "sid": call.sid,
        "account_sid": account,
        "parent_call_sid": None,
        "to": call.to,
        "to_formatted": call.to,
        "from": call.from_,
        "from_formatted": call.from_,
        "phone_number_sid": None,
        "status": call.status,
        "direction": call.direction,
        "start_time": stamp(call.started_at),
        "end_time": stamp(call.ended_at),
        "duration": str(call.duration_s) if call.over else None,
        "price": None,
        "price_unit": "USD",
        "answered_by": call.answered_by,
        "api_version": "2010-04-01",
        "annotation": None,
        "forwarded_from": None,
        "group_sid": None,
        "caller_name": None,
        "queue_time": "0",
        "trunk_sid": None,
        "date_created": stamp(call.created_at),
        "date_updated": stamp(call.updated_at),
        "uri": f"{path}.json",
        "subresource_uris": {name: f"{path}/{name.capitalize()}.json" for name in subresources},
    }
