"""The half of the console's fake API that is about calls: placing, following, history, bookings, money."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from aiohttp import web

from tests.doubles.console_api import ENDED, PRICE, ConsoleApi, page, problem

SILENCE = bytes.fromhex("524946462400000057415645666d74201000000001000200401f0000007d0000040010006461746100000000")


def routes(api: ConsoleApi) -> list[web.RouteDef]:
    return [*_calls(api), *_history(api), *_bookings(api), *_money(api)]


def _calls(api: ConsoleApi) -> list[web.RouteDef]:
    def find(request: web.Request) -> dict[str, Any]:
        return next(call for call in api.calls if call["id"] == request.match_info["call"])

    async def place(request: web.Request) -> web.Response:
        wanted = (await request.json()).get("persona", api.contacts[0] if api.contacts else None)
        persona = next(one for one in api.personas if one["id"] == wanted)
        call = api._call(persona, "dialing")
        api.calls.insert(0, call)
        return web.json_response(call, status=201)

    async def read(request: web.Request) -> web.Response:
        return web.json_response(find(request))

    async def hang_up(request: web.Request) -> web.Response:
        if find(request)["state"] not in ENDED:
            api.end(
                "completed" if find(request)["answered_at"] else "canceled", 61 if find(request)["answered_at"] else 0
            )
        return web.Response(status=202)

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        api.watchers.add(queue)
        try:
            await response.write(b": connected\n\n")
            api.followed.set()
            while True:
                await response.write(await queue.get())
        except (ConnectionError, asyncio.CancelledError):
            return response
        finally:
            api.watchers.discard(queue)

    async def stop(request: web.Request) -> web.Response:
        api.opted_out.append((await request.json())["number"])
        return web.json_response({}, status=201)

    return [
        web.post("/v1/calls", place),
        web.get("/v1/calls/{call}", read),
        web.delete("/v1/calls/{call}", hang_up),
        web.get("/v1/calls/{call}/events", events),
        web.post("/v1/opt-outs", stop),
    ]


def _history(api: ConsoleApi) -> list[web.RouteDef]:
    async def read(request: web.Request) -> web.Response:
        asked = request.query
        found = [
            call
            for call in api.calls
            if asked.get("persona", call["persona"]["id"]) == call["persona"]["id"]
            and asked.get("state", call["state"]) == call["state"]
            and asked.get("from", "") <= call["created_at"] <= asked.get("to", "9")
        ]
        limit, after = int(asked.get("limit", 50)), int(asked.get("after", 0))
        more = str(after + limit) if len(found) > after + limit else None
        return page(found[after : after + limit], more)

    async def transcript(request: web.Request) -> web.Response:
        return page(api.turns.get(request.match_info["call"], []))

    async def recording(_request: web.Request) -> web.Response:
        return web.Response(body=SILENCE, content_type="audio/wav")

    async def refund(request: web.Request) -> web.Response:
        if "loud" in (await request.json())["reason"]:
            document = {
                "type": ".../refund-refused",
                "detail": "This is outside the policy. Write to support.",
                "field": None,
            }
            return problem(409, document)
        return web.json_response({"state": "pending"}, status=201)

    async def search(request: web.Request) -> web.Response:
        hits = [
            {
                "call": call,
                "passage": turn["text"],
                "who": turn["who"],
                "at": turn["at"],
                "turn": turn["number"],
                "score": 0.9,
            }
            for call in ({"id": key} for key in api.turns)
            for turn in api.turns[call["id"]]
            if any(word in turn["text"].lower() for word in request.query["q"].lower().split())
        ]
        return page(hits)

    async def usage(request: web.Request) -> web.Response:
        items: dict[str, dict[str, Any]] = {}
        for call in api.calls:
            persona = request.query["by"] == "persona"
            key = (
                call["persona"]["id"] if persona else call["created_at"][: 7 if request.query["by"] == "month" else 10]
            )
            row = items.setdefault(key, {"key": key, "name": call["persona"]["name"] if persona else None, **NOTHING})
            row["calls"] += 1
            row["minutes"] += -(-(call["duration_seconds"] or 0) // 60)
            row["spent_usd_micros"] += call["cost_usd_micros"]
        totals = {name: sum(row[name] for row in items.values()) for name in NOTHING}
        return web.json_response({"totals": totals, "items": list(items.values())})

    return [
        web.get("/v1/calls", read),
        web.get("/v1/calls/{call}/transcript", transcript),
        web.get("/v1/calls/{call}/recording", recording),
        web.post("/v1/calls/{call}/refund", refund),
        web.get("/v1/search", search),
        web.get("/v1/usage", usage),
    ]


NOTHING = {"calls": 0, "minutes": 0, "spent_usd_micros": 0}


def _bookings(api: ConsoleApi) -> list[web.RouteDef]:
    def find(request: web.Request) -> dict[str, Any]:
        return next(one for one in api.scheduled if one["id"] == request.match_info["scheduled"])

    async def read(request: web.Request) -> web.Response:
        coming = request.query["state"] == "coming"
        return page([one for one in api.scheduled if (one["state"] in {"proposed", "pending"}) is coming])

    async def one(request: web.Request) -> web.Response:
        return web.json_response(find(request))

    def taken(body: dict[str, Any]) -> dict[str, Any]:
        persona = next(one for one in api.personas if one["id"] == body["persona"])
        due = dt.datetime.fromisoformat(body["at"]).replace(tzinfo=dt.UTC).isoformat()
        named = {"persona": {"id": persona["id"], "name": persona["name"]}, "due_at": due, "local": body["at"]}
        return named | {name: body.get(name) for name in ("zone", "max_minutes", "repeat")}

    async def book(request: web.Request) -> web.Response:
        made = api._booked(api.personas[0], "pending", 1) | taken(await request.json())
        api.scheduled.append(made)
        return web.json_response(made, status=201)

    async def change(request: web.Request) -> web.Response:
        found = find(request)
        found |= taken(await request.json())
        return web.json_response(found)

    async def confirm(request: web.Request) -> web.Response:
        found = find(request)
        found["state"] = "pending"
        return web.json_response(found)

    async def cancel(request: web.Request) -> web.Response:
        find(request).update(state="canceled")
        return web.Response(status=204)

    return [
        web.get("/v1/scheduled-calls", read),
        web.post("/v1/scheduled-calls", book),
        web.get("/v1/scheduled-calls/{scheduled}", one),
        web.patch("/v1/scheduled-calls/{scheduled}", change),
        web.post("/v1/scheduled-calls/{scheduled}/confirm", confirm),
        web.delete("/v1/scheduled-calls/{scheduled}", cancel),
    ]


def _money(api: ConsoleApi) -> list[web.RouteDef]:
    def find(request: web.Request) -> dict[str, Any]:
        return next(one for one in api.methods if one["id"] == request.match_info["method"])

    async def read(_request: web.Request) -> web.Response:
        return page(api.methods)

    async def add(request: web.Request) -> web.Response:
        if (await request.json())["payment_method"] == "pm_card_chargeDeclined":
            return problem(402, {"type": ".../card-declined", "detail": "The card was declined. Use another card."})
        made = api._method("visa", "4242", default=not api.methods)
        api.methods.append(made)
        return web.json_response(made, status=201)

    async def prefer(request: web.Request) -> web.Response:
        for method in api.methods:
            method["default"] = method is find(request)
        return web.Response(status=204)

    async def drop(request: web.Request) -> web.Response:
        api.methods.remove(find(request))
        return web.json_response({"warning": "A booked call can no longer be paid." if api.scheduled else None})

    async def prices(_request: web.Request) -> web.Response:
        return page([PRICE])

    async def ledger(_request: web.Request) -> web.Response:
        return page(api.lines)

    return [
        web.get("/v1/payment-methods", read),
        web.post("/v1/payment-methods", add),
        web.put("/v1/payment-methods/{method}/default", prefer),
        web.delete("/v1/payment-methods/{method}", drop),
        web.get("/v1/prices", prices),
        web.get("/v1/ledger", ledger),
    ]
