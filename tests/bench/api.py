"""`bench api`: how long the ten main routes take at 500 requests a second on one core, beside a bare aiohttp handler.

Requests leave when they are due, whether or not earlier ones were answered, and are timed from the moment they were
due: a server that falls behind cannot hide it. While ours is measured it also holds a few calls, whose callers tell
whether they heard anything of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from infra.database.pool import pool
from infra.settings import load
from infra.vault import Vault, master_key, own_key
from tests.bench.figures import Bar, Spread, percentile, percentiles
from tests.bench.harness import (
    OTHER_CORE,
    SERVER_CORE,
    BenchError,
    Ground,
    Network,
    Ours,
    answering,
    free_port,
    ground,
    network,
    ours,
    pinned,
    program,
    say,
)
from tests.bench.load import SETTLE_SECONDS, hold_calls
from tests.doubles.belongings import Belongings, belongings

RATE = 500  # requests a second
CALLS = 2  # held meanwhile
WARM_UP_SECONDS = 3.0
REQUEST_SECONDS = 10.0
CONNECTIONS = 200
HISTORY = 300  # ended calls of the user
LIMIT = 100_000_000
EMAIL, PASSWORD = "bench@example.com", "correct horse battery staple"
MORE_CALLS = """
insert into calls (id, direction, state, ended_reason, ended_at, answered_at, created_at, persona, from_number,
    to_number, owner, persona_id, number_id, max_minutes)
select 'call_' || md5(n::text), direction, state, ended_reason, ended_at - n * interval '1 hour',
    answered_at - n * interval '1 hour', created_at - n * interval '1 hour', persona, from_number, to_number, owner,
    persona_id, number_id, max_minutes
from calls, generate_series(1, {count}) n where id = '{call}'
"""


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request."""

    name: str
    method: str
    path: str
    body: Any = None


@dataclass(frozen=True)
class Answers:
    """What a window of load came to: milliseconds by route, and how many were not answered well."""

    times_ms: dict[str, list[float]]
    failed: dict[str, int]
    behind_ms: float  # how late we ourselves sent, at the 99th percentile

    def told(self) -> dict[str, Any]:
        """For JSON."""
        shares = {name: percentiles(values) for name, values in self.times_ms.items()}
        return {"routes": shares, "failed": self.failed, "sender_behind_p99_ms": round(self.behind_ms, 3)}

    def p95(self) -> float:
        """Of the slowest route; NaN when anything failed."""
        if self.failed or not self.times_ms:
            return math.nan
        return max(percentile(values, 0.95) for values in self.times_ms.values())


async def run_api(seconds: float, runs: int) -> tuple[dict[str, Any], list[Bar]]:
    """Run the benchmark; its report and its bars."""
    told: dict[str, Any] = {"rate": RATE, "bare": [], "ours": [], "lateness_p99_ms": {"alone": [], "loaded": []}}
    slowest: list[float] = []
    async with (
        ground() as place,
        network(place.folder) as phones,
        bare(place.folder) as bare_url,
        serving(place, phones) as node,
        signed_in(place, node) as (session, routes),
    ):
        for _ in range(runs):
            plain = await asked(session, bare_url, [Route("bare", "GET", "/")], seconds)
            alone = await hold_calls(phones, node, CALLS, seconds)
            async with asyncio.TaskGroup() as both:
                holding = both.create_task(hold_calls(phones, node, CALLS, seconds))
                loading = both.create_task(asked(session, base_of(node), routes, seconds + SETTLE_SECONDS))
            found, held = loading.result(), holding.result()
            told["bare"].append(plain.told())
            told["ours"].append(found.told())
            told["lateness_p99_ms"]["alone"].append(alone.figures["lateness_p99_ms"])
            told["lateness_p99_ms"]["loaded"].append(held.figures["lateness_p99_ms"])
            slowest.append(found.p95())
            tell(plain, found)
    late = Spread(tuple(told["lateness_p99_ms"]["loaded"]))
    say(f"  callers heard it {late} ms late at p99, alone {Spread(tuple(told['lateness_p99_ms']['alone']))}")
    return told, bars(Spread(tuple(slowest)).median, late.median)


def bars(p95_ms: float | None = None, lateness_ms: float | None = None) -> list[Bar]:
    """The slowest route's p95, and what callers heard meanwhile."""
    return [
        Bar("api_p95", p95_ms, 50.0, "at most", " ms"),
        Bar("api_call_lateness", lateness_ms, 20.0, "at most", " ms"),
    ]


def tell(plain: Answers, found: Answers) -> None:
    """Print a window."""
    for side in (plain, found):
        for name, values in side.times_ms.items():
            shares = ", ".join(f"p{share:g} {percentile(values, share / 100):.2f}" for share in (50, 95, 99))
            failed = f", {side.failed[name]} failed" if name in side.failed else ""
            say(f"  {name:16s} {shares} ms, {len(values)} requests{failed}")
    say(f"  the sender itself was {found.behind_ms:.2f} ms behind at p99")


async def asked(session: aiohttp.ClientSession, url: str, routes: Sequence[Route], seconds: float) -> Answers:
    """Send `RATE` requests a second, the routes in turn; what came before `WARM_UP_SECONDS` does not count."""
    times: dict[str, list[float]] = {route.name: [] for route in routes}
    failed: dict[str, int] = {}
    behind: list[float] = []
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()

    async def one(route: Route, due: float) -> None:
        behind.append((time.perf_counter() - due) * 1000)
        try:
            async with session.request(route.method, url + route.path, json=route.body) as answer:
                await answer.read()
                good = answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            good = False
        if not good:
            failed[route.name] = failed.get(route.name, 0) + 1
        elif due - began >= WARM_UP_SECONDS:
            times[route.name].append((time.perf_counter() - due) * 1000)

    for number in range(int((seconds + WARM_UP_SECONDS) * RATE)):
        due = began + number / RATE
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(routes[number % len(routes)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return Answers(times, failed, percentile(behind, 0.99))


def base_of(node: Ours) -> str:
    """The node's address."""
    return node.voice_url.removesuffix("/twilio/voice")


@contextlib.asynccontextmanager
async def serving(place: Ground, phones: Network) -> AsyncIterator[Ours]:
    """A node whose limits let the benchmark through."""
    limits: dict[str, Any] = {f"limits_{kind}": LIMIT for kind in ("read", "write", "calls", "auth", "verify")}
    async with ours(place, phones, hosts=1, per_host=10, **limits) as node:
        with pinned(OTHER_CORE):
            yield node


@contextlib.asynccontextmanager
async def signed_in(place: Ground, node: Ours) -> AsyncIterator[tuple[aiohttp.ClientSession, list[Route]]]:
    """A session of somebody with a history, and the routes that such a person's page asks.

    Raises:
        BenchError: nobody can sign up.
    """
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    body = {
        "email": EMAIL,
        "password": PASSWORD,
        "zone": "UTC",
        "adult": True,
        "consents": {"service": True, "transcripts": True},
    }
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        async with session.post(f"{base_of(node)}/v1/accounts", json=body) as answer:
            told = await answer.json(content_type=None)
            if answer.status != 201:
                raise BenchError(f"The node lets nobody sign up: {told}")
        owned = await furnished(place, told["user"]["id"])
        session.headers["Authorization"] = f"Bearer {told['access_token']}"
        yield session, routes_of(owned)


async def furnished(place: Ground, user: str) -> Belongings:
    """Give the user one of everything and a long history."""
    settings = load(environ={}, vault_master_key=own_key(place.folder / "var"))
    async with pool(place.database, max_size=2) as connections:
        owned = await belongings(connections, Vault(connections, master_key(settings)), user)
        ended, live = owned.ids["call"]
        await connections.execute(MORE_CALLS.format(count=HISTORY, call=ended))
        await connections.execute(
            "update calls set state = 'completed', ended_reason = 'api', ended_at = now() where id = $1", live
        )
        await connections.execute("update calls set settled_at = now(), archived_at = now() where owner = $1", user)
    return owned


def routes_of(owned: Belongings) -> list[Route]:
    """The ten main routes, as the console asks them."""
    call, persona = owned.ids["call"][0], owned.ids["persona"][0]
    return [
        Route("me", "GET", "/v1/me"),
        Route("change me", "PATCH", "/v1/me", {"name": "Ada"}),
        Route("personas", "GET", "/v1/personas"),
        Route("persona", "GET", f"/v1/personas/{persona}"),
        Route("contacts", "GET", "/v1/contacts"),
        Route("numbers", "GET", "/v1/numbers"),
        Route("calls", "GET", "/v1/calls?limit=20"),
        Route("call", "GET", f"/v1/calls/{call}"),
        Route("booked calls", "GET", "/v1/scheduled-calls"),
        Route("usage", "GET", "/v1/usage?by=day"),
    ]


@contextlib.asynccontextmanager
async def bare(folder: Path) -> AsyncIterator[str]:
    """A program that answers every request with the same few bytes, on the server's core."""
    port, log = free_port(), folder / "bare.log"
    async with program(("-m", "tests.bench.api", "--port", str(port)), SERVER_CORE, log) as process:
        await answering(port, process, log)
        yield f"http://127.0.0.1:{port}"


async def answer_bare(port: int) -> None:
    """The bare handler; runs until it is ended."""
    body = b'{"id": "call_0", "state": "completed", "at": "' + str(time.time()).encode() + b'"}'

    async def handle(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The bare handler that `bench api` measures beside ours.")
    parser.add_argument("--port", type=int, required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(answer_bare(parser.parse_args().port))
    os._exit(0)
