"""One call as it happens, for its owner's page: its state, what is said, what it costs so far."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import msgspec
from aiohttp import web

from infra.database.owned_calls import OwnedCall
from infra.money import NoPrice, Price
from transports.http.api import Ask
from transports.http.call_views import turn_views, view

METER_SECONDS = 1.0
TOGETHER_SECONDS = 0.05  # changes that come together are read together
AFTERWARDS_SECONDS = 20.0  # for the settlement of a call that is over
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """How long the call has been connected, what that costs by now, and what is left."""

    seconds: int
    seconds_left: int
    cost_usd_micros: int
    hold_usd_micros: int | None


class CallStream:
    """Sends one call's events to one page."""

    def __init__(self, ask: Ask, call: OwnedCall, response: web.StreamResponse) -> None:
        self._ask, self._call, self._response = ask, call, response
        self._said: dict[int, tuple[str, bool]] = {}  # what was sent of each turn
        self._shown = b""
        self._price: Price | None = None

    async def run(self) -> None:
        """Send until the call is over and paid, or the page is gone."""
        services = self._ask.services
        try:
            self._price = await services.money.price()
        except NoPrice:
            self._price = None
        with services.announcements.following(self._call.id) as changes:
            await self._tell()
            over_since: float | None = None
            loop = asyncio.get_running_loop()
            while True:
                if self._call.over:
                    over_since = over_since or loop.time()
                    if self._call.settled_at is not None or loop.time() - over_since > AFTERWARDS_SECONDS:
                        return
                kinds = await self._wait(changes)
                if None in kinds:
                    return
                await (self._tell() if kinds else self._beat())

    async def _wait(self, changes: asyncio.Queue[str | None]) -> set[str | None]:
        """The kinds of changes since the last look; none when it is only time for the meter."""
        try:
            kinds = {await asyncio.wait_for(changes.get(), METER_SECONDS)}
        except TimeoutError:
            return set()
        await asyncio.sleep(TOGETHER_SECONDS)
        while not changes.empty():
            kinds.add(changes.get_nowait())
        return kinds

    async def _tell(self) -> None:
        services, owner = self._ask.services, self._ask.user.user_id
        found = await services.history.own(owner, self._call.id)
        if found is None:  # erased meanwhile
            self._call = msgspec.structs.replace(self._call, settled_at=dt.datetime.now(dt.UTC))
            return
        self._call = found
        shown = msgspec.json.encode(await view(services.vault, found))
        if shown != self._shown:
            self._shown = shown
            await self._send("state", shown)
        undone = [number for number, (_, done) in self._said.items() if not done]
        since = min(undone, default=max(self._said, default=0) + 1)
        for turn in await turn_views(services.vault, owner, await services.history.own_turns(owner, found.id, since)):
            if turn.text and self._said.get(turn.number) != (turn.text, turn.done):
                await self._send("turn", msgspec.json.encode(turn))
            self._said[turn.number] = (turn.text, turn.done)
        await self._beat()

    async def _beat(self) -> None:
        """The meter while the call is connected, else only a sign of life."""
        seconds, most = self._call.connected_seconds, (self._call.max_minutes or 0) * 60
        if seconds is None or self._call.over or self._price is None:
            await self._response.write(b": still here\n\n")
            return
        hold = self._call.held_usd_micros
        cost = self._price.of(max(seconds, 1.0))
        meter = Meter(
            seconds=round(seconds),
            seconds_left=max(0, round(most - seconds)),
            cost_usd_micros=cost if hold is None else min(cost, hold),
            hold_usd_micros=hold,
        )
        await self._send("meter", msgspec.json.encode(meter))

    async def _send(self, event: str, data: bytes) -> None:
        await self._response.write(b"event: " + event.encode() + b"\ndata: " + data + b"\n\n")


async def stream(ask: Ask, call: OwnedCall) -> web.StreamResponse:
    """Answer with the events of a call until it is over and paid."""
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(ask.request)
    with contextlib.suppress(ConnectionError):
        await CallStream(ask, call, response).run()
    return response
