"""The network as a whole: its numbers, its calls, its clock, and the server that offers it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from . import control, persona, rest, verify
from .calls import NO_DETECTION, Call, Detection, Instructions
from .faults import Fault, Faults
from .measures import together
from .persona import Persona
from .speech import Speech
from .ticker import Ticker
from .webhooks import Webhooks

_GOODBYE_S = 10.0
_KEPT_CALLS = 10_000


@dataclass(frozen=True)
class Config:
    """One network: the account it serves and what its numbers do."""

    account_sid: str = "AC00000000000000000000000000000000"
    auth_token: str = "simulator-auth-token"  # noqa: S105  # nothing real is behind it
    voice_url: str = ""  # asked when somebody calls the server's numbers
    status_url: str = ""  # told when such a call has ended
    answerer: str = "friend"  # the persona that picks up where the server calls
    recordings: Path | None = None  # folder for two-channel WAV files
    seed: int = 0


class Network:
    """A phone network in a box. Use it as an async context manager, or through `serving`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.faults = Faults(config.seed)
        self.speech = Speech()
        self.ticker = Ticker()
        self.calls: dict[str, Call] = {}
        self.numbers: dict[str, str] = {}  # number -> persona that picks up there
        self.url = ""  # where this network is served, once it is
        self._session: aiohttp.ClientSession | None = None
        self._webhooks: Webhooks | None = None

    @property
    def webhooks(self) -> Webhooks:
        """The sender of webhooks; there is one while the network is up."""
        assert self._webhooks
        return self._webhooks

    async def __aenter__(self) -> Network:
        # A connection for each webhook: one that was kept may belong to a server that has just died, and a POST that
        # finds that out is not sent again, which no carrier would let a call die of.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector, skip_auto_headers=("Accept-Encoding",))
        self._webhooks = Webhooks(self._session, self.config.auth_token, self.faults)
        self.ticker.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.hang_up_all()
        self.ticker.stop()
        await self.speech.close()
        if self._session:
            await self._session.close()

    def create(self, to: str, from_: str, instructions: Instructions, detection: Detection = NO_DETECTION) -> Call:
        """The server calls somebody."""
        answerer = persona.load(self.numbers.get(to, self.config.answerer))
        return self._start(Call(self, "outbound-api", (from_, to), answerer, instructions, detection))

    def dial(self, to: str, from_: str, caller: Persona, voice_url: str = "") -> Call:
        """Somebody calls the server's number `to`."""
        url = voice_url or self.config.voice_url
        if not url:
            raise ValueError("Nobody answers this number: give voice_url, or start the network with --webhook.")
        return self._start(
            Call(self, "inbound", (from_, to), caller, Instructions(url, status_url=self.config.status_url))
        )

    def inflict(self, fault: Fault) -> int:
        """A fault from now on; one of a stream also strikes, at once, the live calls it names (`call`, or "all")."""
        if not (fault.kind.startswith("stream_") and fault.kind != "stream_bad_signature" and fault.reach.call):
            self.faults.add(fault)
            return 0
        struck = 0
        for call in self.calls.values():
            if call.stream and fault.reach.call in ("all", call.sid):
                asyncio.get_running_loop().call_later(
                    fault.moment_ms(self.faults.chance) / 1000, call.stream.inflict, fault
                )
                struck += 1
        return struck

    async def hang_up_all(self) -> None:
        """End every live call and wait until its last webhook is sent."""
        tasks = [call.task for call in self.calls.values() if call.task and not call.task.done()]
        for call in self.calls.values():
            call.end()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_GOODBYE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reset(self) -> None:
        """As new: no calls, no faults, no numbers."""
        await self.hang_up_all()
        self.calls.clear()
        self.faults.clear()
        self.numbers.clear()

    def measures(self) -> dict[str, Any]:
        """All calls as one, and how well this network itself kept time."""
        figures = together(call.record() for call in self.calls.values())
        lag = self.ticker.lag.record()
        del lag["histogram"]
        live = sum(not call.over for call in self.calls.values())
        return figures | {"live": live, "own_lag_ms": lag}

    def _start(self, call: Call) -> Call:
        if len(self.calls) >= _KEPT_CALLS:
            oldest = next((sid for sid, each in self.calls.items() if each.over), None)
            if oldest:
                del self.calls[oldest]
        self.calls[call.sid] = call
        call.task = asyncio.create_task(call.run(), name=call.sid)
        return call


def application(network: Network) -> web.Application:
    """The HTTP side: Twilio's REST APIs and the control API."""
    app = web.Application()
    rest.mount(app, network)
    verify.mount(app, network)
    control.mount(app, network)
    return app


@contextlib.asynccontextmanager
async def serving(config: Config, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Network]:
    """A network that answers at `network.url` while the context lasts; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    async with Network(config) as network:
        runner = web.AppRunner(application(network), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            network.url = f"http://{host}:{runner.addresses[0][1]}"
            yield network
            await network.hang_up_all()
        finally:
            await runner.cleanup()
