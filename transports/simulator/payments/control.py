"""The control API, and the page on which a cardholder proves who they are. The package's docstring lists it all.

Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from .cards import CardError
from .errors import ApiError
from .faults import FaultError

if TYPE_CHECKING:
    from .double import Double

_Handler = Callable[["Double", web.Request], Awaitable[web.StreamResponse]]
_PAGE = """<!doctype html><html lang="en"><title>Confirm the payment</title>
<h1>Confirm the payment</h1><p>This page stands in for the cardholder's bank.</p>
<form method="post"><button name="outcome" value="succeed">Confirm</button>
<button name="outcome" value="fail">Refuse</button></form></html>"""


def mount(app: web.Application, double: Double) -> None:
    """Add the control API to an application."""
    routes: tuple[tuple[str, str, _Handler], ...] = (
        ("GET", "/control/state", _state),
        ("GET", "/control/faults", _faults),
        ("POST", "/control/faults", _inflict),
        ("DELETE", "/control/faults", _lift),
        ("GET", "/control/clock", _clock),
        ("POST", "/control/clock", _advance),
        ("GET", "/control/cards", _cards),
        ("POST", "/control/cards", _card),
        ("POST", "/control/authenticate", _authenticate),
        ("POST", "/control/disputes", _dispute),
        ("POST", "/control/disputes/{dispute}", _close_dispute),
        ("GET", "/control/requests", _requests),
        ("GET", "/control/webhooks", _webhooks),
        ("POST", "/control/webhooks", _aim),
        ("POST", "/control/webhooks/resend", _resend),
        ("POST", "/control/reset", _reset),
        ("GET", "/3ds/{intent}", _challenge),
        ("POST", "/3ds/{intent}", _challenged),
    )
    for method, path, handler in routes:
        app.router.add_route(method, path, _guarded(double, handler))


def _guarded(double: Double, handler: _Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(double, request)
        except ApiError as error:
            return _problem(error.status, "The processor refuses", str(error))
        except (FaultError, CardError, ValueError, LookupError, TypeError) as error:
            detail = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            return _problem(400, "The request cannot be carried out", detail)

    return guarded


def _problem(status: int, title: str, detail: str) -> web.Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")


async def _body(request: web.Request) -> dict[str, Any]:
    data = json.loads(await request.text() or "{}")
    if not isinstance(data, dict):
        raise ValueError("The body is a JSON object.")
    return data


def _text(body: dict[str, Any], name: str, default: str | None = None) -> str:
    value = body[name] if default is None else body.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name} is a string.")
    return value


async def _state(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response(double.state())


async def _faults(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response({"faults": double.faults.status()})


async def _inflict(double: Double, request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    faults = body.get("faults", [body])
    if not isinstance(faults, list) or not all(isinstance(fault, dict) for fault in faults):
        raise ValueError("faults is a list of faults.")
    double.inflict(*faults)
    return web.json_response({"faults": double.faults.status()}, status=201)


async def _lift(double: Double, request: web.Request) -> web.StreamResponse:
    double.lift()
    return web.json_response({"faults": []})


async def _clock(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response({"now": double.now})


async def _advance(double: Double, request: web.Request) -> web.StreamResponse:
    seconds = (await _body(request))["advance"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError("advance is a number of seconds.")
    return web.json_response({"expired": double.advance(seconds), "now": double.now})


async def _cards(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response({"cards": [{"token": name} | vars(card) for name, card in double.store.tokens.items()]})


async def _card(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response(double.card(await _body(request)), status=201)


async def _authenticate(double: Double, request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    return web.json_response(double.authenticate(_text(body, "intent"), _text(body, "outcome", "succeed")))


async def _dispute(double: Double, request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    amount = body.get("amount")
    if isinstance(amount, bool) or not isinstance(amount, int | None):
        raise ValueError("amount is a whole number of cents.")
    dispute = double.dispute(_text(body, "payment"), _text(body, "reason", "fraudulent"), amount)
    return web.json_response(dispute, status=201)


async def _close_dispute(double: Double, request: web.Request) -> web.StreamResponse:
    status = _text(await _body(request), "status")
    return web.json_response(double.close_dispute(request.match_info["dispute"], status))


async def _requests(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response(double.requests)


async def _webhooks(double: Double, request: web.Request) -> web.StreamResponse:
    return web.json_response(double.deliveries)


async def _aim(double: Double, request: web.Request) -> web.StreamResponse:
    body = await _body(request)
    url = _text(body, "url")
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("url begins with http:// or https://, or is empty.")
    double.aim(url, _text(body, "secret") if "secret" in body else None)
    return web.json_response({"url": url})


async def _resend(double: Double, request: web.Request) -> web.StreamResponse:
    event = _text(await _body(request), "event")
    if not double.webhooks.again(event):
        return _problem(404, "There is no such delivery", event)
    return web.json_response({"event": event}, status=202)


async def _reset(double: Double, request: web.Request) -> web.StreamResponse:
    double.reset()
    return web.json_response({"now": double.now})


async def _challenge(double: Double, request: web.Request) -> web.StreamResponse:
    return web.Response(text=_PAGE, content_type="text/html")


async def _challenged(double: Double, request: web.Request) -> web.StreamResponse:
    intent = request.match_info["intent"]
    tables = double.store.tables
    waiting = tables["payment_intent"].get(intent) or tables["setup_intent"].get(intent) or {}
    back = ((waiting.get("next_action") or {}).get("redirect_to_url") or {}).get("return_url")
    after = double.authenticate(intent, str((await request.post()).get("outcome", "")))
    if not back:
        return web.json_response({"status": after["status"]})
    name = str(after["object"])
    query = urlencode({name: intent, f"{name}_client_secret": after["client_secret"], "redirect_status": "succeeded"})
    raise web.HTTPSeeOther(f"{back}{'&' if '?' in back else '?'}{query}")
