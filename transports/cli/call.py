"""`main.py call`: place a call through a running node, and follow it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

from infra.settings import Settings
from transports.cli.options import DONE, FAILED, fail, parser, run, say, settings_of

TIMEOUT = aiohttp.ClientTimeout(total=30)
POLL_SECONDS = 0.5
OVER = {"completed", "busy", "no_answer", "voicemail", "failed", "canceled", "rejected"}


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser("call", "Have a running node call a number, and show the call until it is over.")
    made.add_argument("to", help="the number in E.164, such as +15551234567; only numbers whose owner agreed")
    made.add_argument("--persona", help="who speaks (default: CALLS_PERSONA)")
    made.add_argument(
        "--node", metavar="URL", help="the node's address (default: NODE_PUBLIC_URL or NODE_BIND:NODE_PORT)"
    )
    made.add_argument("--json", action="store_true", help="print the ended call for machines")
    options = made.parse_args(argv)
    settings = settings_of(options)
    return run(place(settings, options.node or settings.public_url, options.to, options.persona, options.json))


async def place(settings: Settings, node: str, to: str, persona: str | None, as_json: bool) -> int:
    """Place the call and follow it; 1 unless it was completed."""
    token = settings.node.operator_token.get_secret_value()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(node.rstrip("/") + "/", headers=headers, timeout=TIMEOUT) as session:
        body = {"to": to} | ({"persona": persona} if persona else {})
        placed = await ask(session, "POST", "v1/operator/calls", body)
        identity, shown, state = placed["call"]["id"], 0, ""
        while True:
            told = await ask(session, "GET", f"v1/operator/calls/{identity}")
            call = told["call"]
            if call["state"] != state and not as_json:
                state = call["state"]
                say(f"{identity}: {state} {call['ended_reason'] or ''}".rstrip())
            for turn in told["turns"][shown:]:
                if not turn["done"]:
                    break
                shown += 1
                if not as_json:
                    say(f"  {turn['who']:>6}  {turn['spoken'] or turn['text']}")
            if call["state"] in OVER:
                if as_json:
                    say(msgspec.json.encode(told).decode())
                return DONE if call["state"] == "completed" else FAILED
            await asyncio.sleep(POLL_SECONDS)


async def ask(session: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """One request to the node; ends the program with its problem's sentence."""
    try:
        async with session.request(method, path, json=body) as answer:
            document: dict[str, Any] = await answer.json(content_type=None)
            if answer.status >= 400:
                fail(document.get("detail") or f"the node answered {answer.status}")
            return document
    except aiohttp.ClientError as error:
        fail(f"No node answers ({error}). Start one with `main.py serve`, or name it with --node.")
