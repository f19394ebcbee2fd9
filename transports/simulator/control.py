"""The control API: dial the server, see what calls were like, inject faults. For tests, the demo and benchmarks.

    GET  /simulator/calls?live=1     every call's record       GET /simulator/calls/{sid}   one call's
    GET  /simulator/messages         texts sent to phones, the codes in them included (?to=)
    GET  /simulator/measures         all calls as one, and how well the simulator kept time
    POST /simulator/dial             {to, from?, persona?, voice_url?, count?} -> {calls: [sid]}
    POST /simulator/calls/{sid}/hangup                         the caller hangs up
    POST /simulator/numbers          {number, persona}: who picks up there
    GET  /simulator/faults           POST: one fault or {faults: [...]}     DELETE: lift all
    POST /simulator/reset            as new

Errors are problem documents (RFC 9457).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from . import persona
from .calls import Call
from .faults import FaultError, parse
from .persona import PersonaError

if TYPE_CHECKING:
    from .network import Network

_Handler = Callable[["Network", web.Request], Awaitable[web.Response]]


def mount(app: web.Application, network: Network) -> None:
    """Add the control API to an application."""
    routes: tuple[tuple[str, str, _Handler], ...] = (
        ("GET", "/simulator", _overview),
        ("GET", "/simulator/calls", _calls),
        ("GET", "/simulator/calls/{call}", _call),
        ("POST", "/simulator/calls/{call}/hangup", _hang_up),
        ("GET", "/simulator/measures", _measures),
        ("POST", "/simulator/dial", _dial),
        ("POST", "/simulator/numbers", _numbers),
        ("GET", "/simulator/faults", _faults),
        ("POST", "/simulator/faults", _inflict),
        ("DELETE", "/simulator/faults", _lift),
        ("POST", "/simulator/reset", _reset),
    )
    for method, path, handler in routes:
        app.router.add_route(method, path, _guarded(network, handler))


def _guarded(network: Network, handler: _Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def guarded(request: web.Request) -> web.Response:
        try:
            return await handler(network, request)
        except (PersonaError, FaultError, ValueError, KeyError, TypeError) as error:
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


def _known(network: Network, request: web.Request) -> Call | None:
    return network.calls.get(request.match_info["call"])


async def _overview(network: Network, request: web.Request) -> web.Response:
    live = [call.sid for call in network.calls.values() if not call.over]
    return web.json_response(
        {"url": network.url, "personas": persona.names(), "calls": len(network.calls), "live": live}
    )


async def _calls(network: Network, request: web.Request) -> web.Response:
    live = "live" in request.query
    records = [call.record() for call in network.calls.values() if not (live and call.over)]
    return web.json_response({"calls": records})


async def _call(network: Network, request: web.Request) -> web.Response:
    call = _known(network, request)
    if call is None:
        return _problem(404, "There is no such call", request.match_info["call"])
    return web.json_response(call.record())


async def _hang_up(network: Network, request: web.Request) -> web.Response:
    call = _known(network, request)
    if call is None:
        return _problem(404, "There is no such call", request.match_info["call"])
    call.end("completed" if call.status == "in-progress" else "canceled")
    return web.json_response(call.record(), status=202)


async def _measures(network: Network, request: web.Request) -> web.Response:
    return web.json_response(network.measures())


async def _dial(network: Network, request: web.Request) -> web.Response:
    body = await _body(request)
    caller = persona.load(str(body.get("persona", "friend")))
    count, from_ = int(body.get("count", 1)), str(body.get("from", "+15550199000"))
    if not 1 <= count <= 1000:
        raise ValueError("count lies between 1 and 1000")
    calls = [network.dial(str(body["to"]), from_, caller, str(body.get("voice_url", ""))) for _ in range(count)]
    return web.json_response({"calls": [call.sid for call in calls], "sid": calls[0].sid}, status=201)


async def _numbers(network: Network, request: web.Request) -> web.Response:
    body = await _body(request)
    number, name = str(body["number"]), str(body["persona"])
    persona.load(name)
    network.numbers[number] = name
    return web.json_response({"numbers": network.numbers})


async def _faults(network: Network, request: web.Request) -> web.Response:
    return web.json_response({"faults": network.faults.status()})


async def _inflict(network: Network, request: web.Request) -> web.Response:
    body = await _body(request)
    faults = [parse(each) for each in body.get("faults", [body])]
    struck = sum(network.inflict(fault) for fault in faults)
    return web.json_response({"faults": network.faults.status(), "calls_struck": struck}, status=201)


async def _lift(network: Network, request: web.Request) -> web.Response:
    network.faults.clear()
    return web.json_response({"faults": []})


async def _reset(network: Network, request: web.Request) -> web.Response:
    await network.reset()
    return web.json_response({"calls": 0})
