"""A gateway or a host of its own process, to be killed: `python -m tests.doubles.handoff_process ROLE PATH LOOP`.

It writes a line when it is open, and the host one for each grant. The host never decides on the grant `/hold`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from transports.handoff import GRANT, Intake, hand_over

TIMEOUT_S = 2.0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def host(path: Path) -> None:
    async def admit(grant: bytes) -> None:
        say(f"asked {grant.decode()}")
        if grant == b"/hold":
            await asyncio.Event().wait()

    async def talk(request: web.Request) -> web.StreamResponse:
        call = web.WebSocketResponse()
        await call.prepare(request)
        await call.send_str(GRANT.get().decode())
        async for message in call:
            await call.send_str(f"echo {message.data}")
        return call

    app = web.Application()
    app.router.add_get("/{tail:.*}", talk)
    await Intake(path, app, admit).start()
    say("open")
    await asyncio.Event().wait()


async def gateway(path: Path) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await hand_over(request, path, request.path.encode(), timeout=TIMEOUT_S)

    app = web.Application()
    app.router.add_get("/{tail:.*}", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say(f"open {runner.addresses[0][1]}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    role, where, loop = sys.argv[1:]
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run((host if role == "host" else gateway)(Path(where)))
