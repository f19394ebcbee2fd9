"""`main.py demo`: a whole phone call without a key or a network, shown as it happens.

The demo is an ordinary node with a phone network and a card processor in a box beside it. A simulated caller dials the
node's number; both sides really speak and listen. Then the node stays up with its page until Ctrl-C: there a seeded
account can be called by a companion and pays for it with a card that is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from actors.hosts import Hosts, ListHosts
from infra.database.call_records import Call, Turn
from infra.database.calls import CallStore
from infra.database.changes import follow
from infra.database.migrate import MigrationError
from infra.database.pool import pool
from infra.embedded.ground import EmbeddedError
from infra.settings import Settings, SettingsError, Twilio
from infra.telemetry import configure
from transports.cli.options import DONE, FAILED, fail, parser, run, say, settings_of
from transports.cli.seed import SeedError, seed
from transports.cli.serve import announce
from transports.node import KEEPER, Node, running

CALL_SECONDS = 180.0
KILL_AFTER_TURNS = 4
ROOT = Path(__file__).parents[2]
CARD_ACCOUNT = {  # of the card processor in a box
    "stripe_secret_key": "sk_test_double",
    "stripe_publishable_key": "pk_test_double",
    "stripe_webhook_secret": "whsec_double",
}


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("demo", "Take one simulated call, show it live, write its recording, then stay up with a page.")
    made.add_argument("--once", action="store_true", help="end after the call")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the call for machines")
    made.add_argument("--kill", action="store_true", help="kill -9 the call's host in mid-call, to see the call go on")
    made.add_argument("--persona", default="friend", help="the simulated caller (default: friend)")
    made.add_argument("--port", type=int, help="serve the page here (default: NODE_PORT or 8080, else a free port)")
    options = made.parse_args(argv)
    simulator, payments = free_port(0), free_port(0)
    wanted = settings_of(options).node
    settings = settings_of(
        options,
        node_port=options.port or free_port(wanted.port),
        node_public_url="",  # the phone network is on this machine, with an account of its own
        twilio_api_url=f"http://127.0.0.1:{simulator}",
        twilio_account_sid=Twilio().account_sid,
        twilio_auth_token=Twilio().auth_token,
        stripe_api_url=f"http://127.0.0.1:{payments}",
        **CARD_ACCOUNT,
    )
    if "log_level" not in settings.model_fields_set:  # the transcript is the show, not the log
        settings = settings.model_copy(update={"log_level": "warning"})
    return run(demo(settings, simulator, options))


async def demo(settings: Settings, simulator: int, options: argparse.Namespace) -> int:
    """Start everything, hold the call, stay up."""
    configure(settings)
    began = time.monotonic()
    try:
        async with (
            phone_network(simulator, settings),
            card_processor(settings),
            running(settings, say) as node,
        ):
            announce(node)
            login = await seed(settings.public_url, settings.twilio.api_url)
            say(f"ready after {time.monotonic() - began:.1f} s; {options.persona} dials {settings.twilio.number}\n")
            call = await show_call(node, simulator, options)
            if options.json:
                await asyncio.to_thread(options.json.write_bytes, await report(node, call))
                say(f"written to {options.json}")
            if options.once:
                return DONE if call.state == "completed" else FAILED
            say(f"\nthe page: {settings.public_url}/   (Ctrl-C ends the demo)")
            say(f'sign in as {login.email} with the password "{login.password}" and press "Call me"')
            say(f"what operators see: {settings.public_url}/operator")
            again = f"curl -X POST {settings.twilio.api_url}/simulator/dial -H 'Content-Type: application/json'"
            say(f"another call: {again} -d '{dial_body(settings, options.persona)}'")
            await asyncio.Event().wait()
    except (SettingsError, MigrationError, EmbeddedError, SeedError, aiohttp.ClientError, OSError) as error:
        fail(str(error))
    return DONE


def phone_network(port: int, settings: Settings) -> AbstractAsyncContextManager[None]:
    """The phone network in a box as a program of its own, for the length of the block."""
    say(f"starting the phone network simulator on port {port}")
    arguments = ("--account-sid", settings.twilio.account_sid, "--seed", "1")
    return beside(port, "transports.simulator", *arguments)


def card_processor(settings: Settings) -> AbstractAsyncContextManager[None]:
    """The card processor in a box as a program of its own, for the length of the block."""
    stripe, hook = settings.stripe, f"{settings.public_url}/hooks/stripe"
    port = urlsplit(stripe.api_url).port or 0
    say(f"starting the card processor simulator on port {port}")
    secret = ("--secret-key", stripe.secret_key.get_secret_value())
    webhooks = ("--webhook-url", hook, "--webhook-secret", stripe.webhook_secret.get_secret_value())
    return beside(port, "transports.simulator.payments", *secret, *webhooks)


@contextlib.asynccontextmanager
async def beside(port: int, module: str, *arguments: str) -> AsyncIterator[None]:
    """A program of ours on `port`, which ends with the block or with us."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--port", str(port), "--until-eof", *arguments),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,  # closes when we die, however we die
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await reachable(port, process, module)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def reachable(port: int, process: asyncio.subprocess.Process, module: str) -> None:
    """Wait until the program answers."""
    for _ in range(200):
        if process.returncode is not None:
            raise OSError(f"{module} ended with {process.returncode}; run `python -m {module}` to see why.")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise OSError(f"{module} did not answer within 10 s; run `python -m {module}` to see why.")


async def show_call(node: Node, simulator: int, options: argparse.Namespace) -> Call:
    """Have the node called, print the call as it goes, and return it when it is over."""
    async with pool(node.database, max_size=2) as connections, asyncio.timeout(CALL_SECONDS):
        store = CallStore(connections)
        view = Transcript(store, node, kill=options.kill)
        changes = follow(node.database)
        async with contextlib.aclosing(changes):
            await anext(changes)  # listening from here on
            sid = await dial(node.settings, simulator, options.persona)
            async for change in changes:
                if not view.call_id:
                    found = await store.by_carrier_sid(sid)
                    view.call_id = found.id if found else ""
                if view.call_id and change.call in {view.call_id, ""}:
                    call = await view.update()
                    if call.over and (call.recording_path or not call.recording_consent):
                        view.end(call)
                        return call
    raise AssertionError("the changes never end")


def dial_body(settings: Settings, persona: str) -> str:
    body = {"to": settings.twilio.number, "persona": persona, "voice_url": f"{settings.public_url}/twilio/voice"}
    return msgspec.json.encode(body).decode()


async def dial(settings: Settings, simulator: int, persona: str) -> str:
    """Let the simulated caller dial; returns the carrier's call id."""
    url = f"http://127.0.0.1:{simulator}/simulator/dial"
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(url, data=dial_body(settings, persona), headers={"Content-Type": "application/json"}) as answer,
    ):
        document = await answer.json()
        if answer.status >= 400:
            fail(f"the simulator refuses: {document.get('detail')}")
        return str(document["sid"])


class Transcript:
    """Prints a call as it goes on."""

    def __init__(self, store: CallStore, node: Node, *, kill: bool) -> None:
        self.call_id = ""
        self._store, self._node, self._kill = store, node, kill
        self._shown = 0  # turns printed in full
        self._events = 0
        self._began = time.monotonic()

    async def update(self) -> Call:
        """Print what is new."""
        call = await self._store.get(self.call_id)
        for event in await self._store.events(self.call_id, self._events):
            self._events = event.seq
            if event.kind == "claimed":
                again = "the call goes on" if event.epoch > 1 else "the call runs"
                await self._note(f"{again} in {event.data.get('host')} (epoch {event.epoch})", call)
            if event.kind == "consent":
                self._line("", f"recording {'allowed' if event.data.get('granted') else 'declined'}")
        for turn in (await self._store.turns(self.call_id))[self._shown :]:
            if not turn.done:
                break
            self._shown += 1
            self._turn(turn)
        if self._kill and self._shown >= KILL_AFTER_TURNS:
            self._kill = False
            await self._kill_host(call)
        return call

    def end(self, call: Call) -> None:
        self._line("", f"{call.state}: {(call.ended_reason or '').replace('_', ' ')}")
        if call.recording_path:
            self._line("", f"recording: {call.recording_path} (caller left, bot right)")

    def _turn(self, turn: Turn) -> None:
        sound = turn.timings.get("voice_to_voice_ms")
        took = f"   ({sound:.0f} ms voice to voice)" if sound is not None else ""
        self._line("caller" if turn.who == "caller" else "bot", (turn.spoken or turn.text) + took)

    def _line(self, who: str, text: str) -> None:
        say(f"{time.monotonic() - self._began:6.1f} s  {who:>6}  {text}")

    async def _note(self, text: str, call: Call) -> None:
        pid = await self._pid(call.host or "")
        hint = f", process {pid}: `kill -9 {pid}` and it goes on elsewhere" if pid else ""
        self._line("", text + hint)

    async def _pid(self, host: str) -> int:
        hosts = await self._node.system.ref(KEEPER).ask(ListHosts(), timeout=2.0, expect=Hosts)
        return next((int(row["pid"]) for row in hosts.hosts if row["host"] == host), 0)

    async def _kill_host(self, call: Call) -> None:
        pid = await self._pid(call.host or "")
        if pid:
            self._line("", f"kill -9 {pid}  ({call.host})")
            os.kill(pid, signal.SIGKILL)


async def report(node: Node, call: Call) -> bytes:
    """The demo's JSON: the call with its turns, and what stood in for a real provider."""
    async with pool(node.database, max_size=1) as connections:
        turns = await CallStore(connections).turns(call.id)
    document: dict[str, Any] = {
        "calls": [
            {
                "id": call.id,
                "state": call.state,
                "reason": call.ended_reason,
                "epochs": call.epoch,
                "turns": [
                    {"number": t.number, "who": t.who, "text": t.text, "spoken": t.spoken, "timings_ms": t.timings}
                    for t in turns
                ],
                "recording": call.recording_path,
            }
        ],
        "stand_ins": [part.name for part in node.parts if part.stand_in],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def free_port(wanted: int) -> int:
    """`wanted` if it is free, else a port that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("No port is free.")
