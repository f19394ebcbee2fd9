"""A telephone exchange that speaks just as much of Twilio's REST API as dialling needs, fast, and fails when told to.

    python -m tests.doubles.exchange --port 8099 --lost 0.05 --errors 0.05 --lag 0.2 --seed 1

Faults: the answer to a dial is lost after the call was made; or a 500 comes, in one half of the cases after the call
was made, in the other half instead. Calls show up in its list only after `--lag` seconds. Every dial is remembered with
its time: GET /dials.
"""

from __future__ import annotations

import argparse
import random
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web

CALLS = "/2010-04-01/Accounts/{account}/Calls"


class Exchange:
    """The calls that were dialled here.

    Args:
        lost: share of dials whose answer is lost.
        errors: share of requests that are answered by a 500.
        lag_s: how long a call is missing from the list.
    """

    def __init__(self, *, lost: float = 0.0, errors: float = 0.0, lag_s: float = 0.0, seed: int = 1) -> None:
        self.lost, self.errors, self.lag_s = lost, errors, lag_s
        self._chance = random.Random(seed)
        self._calls: dict[str, dict[str, Any]] = {}
        self._by_number: dict[str, list[dict[str, Any]]] = {}
        self.faults = {"lost": 0, "error_before": 0, "error_after": 0, "list_error": 0}

    def app(self) -> web.Application:
        """The exchange as an application."""
        app = web.Application()
        app.router.add_post(CALLS + ".json", self.create)
        app.router.add_get(CALLS + ".json", self.list)
        app.router.add_get("/dials", self.dials)
        app.router.add_post("/faults", self.set_faults)
        return app

    async def create(self, request: web.Request) -> web.StreamResponse:
        at = time.time()
        form = await request.post()
        to = str(form["To"])
        fault = self._chance.random()
        if fault < self.errors / 2:
            self.faults["error_before"] += 1
            return _error()
        call = self._make(to, str(form["From"]), at)
        if fault < self.errors:
            self.faults["error_after"] += 1
            return _error()
        if fault < self.errors + self.lost:
            self.faults["lost"] += 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return web.json_response(call, status=201)

    async def list(self, request: web.Request) -> web.Response:
        if self._chance.random() < self.errors:
            self.faults["list_error"] += 1
            return _error()
        known = self._by_number.get(request.query.get("To", ""), [])
        shown = [call for call in known if call["_at"] < time.time() - self.lag_s]
        uri = str(request.rel_url)
        return web.json_response(
            {"calls": shown, "page": 0, "page_size": 50, "uri": uri, "first_page_uri": uri, "next_page_uri": None,
             "previous_page_uri": None, "start": 0, "end": max(0, len(shown) - 1)}
        )  # fmt: skip

    async def dials(self, request: web.Request) -> web.Response:
        """When each number was dialled."""
        dials = {to: [call["_at"] for call in calls] for to, calls in self._by_number.items()}
        return web.json_response({"dials": dials, "faults": self.faults})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Change the shares, and forget every dial."""
        told = await request.json()
        self.lost, self.errors, self.lag_s = told["lost"], told["errors"], told["lag"]
        self._calls.clear()
        self._by_number.clear()
        self.faults = dict.fromkeys(self.faults, 0)
        return web.json_response({})

    def _make(self, to: str, from_: str, at: float) -> dict[str, Any]:
        sid = f"CA{len(self._calls):032x}"
        stamp = format_datetime(datetime.fromtimestamp(at, UTC).replace(microsecond=0))
        call = {
            "sid": sid, "status": "queued", "to": to, "from": from_, "direction": "outbound-api",
            "date_created": stamp, "date_updated": stamp, "start_time": None, "end_time": None, "duration": None,
            "answered_by": None, "_at": at,
        }  # fmt: skip
        self._calls[sid] = call
        self._by_number.setdefault(to, []).append(call)
        return call


def _error() -> web.Response:
    return web.json_response({"code": 20500, "message": "An internal server error has occurred"}, status=500)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lost", type=float, default=0.0)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--lag", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    exchange = Exchange(lost=told.lost, errors=told.errors, lag_s=told.lag, seed=told.seed)
    web.run_app(exchange.app(), host="127.0.0.1", port=told.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
