"""People with accounts on a running node: signed up, proven, with a card, and phones of their own in the network."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.doubles.live_node import LiveNode, Program, live_node, program, wait_for

CALM = {
    **{f"LIMITS_{kind}": "100000" for kind in ("READ", "WRITE", "CALLS", "AUTH", "VERIFY")},
    "COMPLIANCE_ATTEMPTS_A_DAY": "50",
    "STRIPE_SECRET_KEY": "sk_test_double",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_double",
    "STRIPE_WEBHOOK_SECRET": "whsec_double",
}
PASSWORD = "give me a ring, will you"
_numbers = itertools.count(2025550150)  # of the range that is kept for fiction


@dataclass
class Person:
    """Somebody with an account."""

    node: LiveNode
    headers: dict[str, str]
    number: str
    number_id: str
    personas: dict[str, str]

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A request of theirs: status and document."""
        url = self.node.url + path
        async with self.node.session.request(method, url, json=body, headers=self.headers) as answer:
            text = await answer.read()
            return answer.status, (await answer.json(content_type=None)) if text else None

    async def rings(self, phone: Path | str, persona: str, minutes: int = 15) -> str:
        """Have oneself called, on a phone that is answered like that; the call's id."""
        told = {"number": self.number, "persona": str(phone)}
        await self.node.tell_network("POST", "/numbers", told)
        wanted = {"persona": self.personas[persona], "max_minutes": minutes, "outside_hours": True}
        status, call = await self.ask("POST", "/v1/calls", wanted)
        assert status == 201, call
        return str(call["id"])

    async def call(self, call_id: str) -> dict[str, Any]:
        """The call as they see it."""
        status, call = await self.ask("GET", f"/v1/calls/{call_id}")
        assert status == 200, call
        return dict(call)

    async def until(
        self, call_id: str, true: Callable[[dict[str, Any]], Any], seconds: float = 120.0
    ) -> dict[str, Any]:
        """The call as soon as `true` holds for it."""
        last: dict[str, Any] = {}

        async def look() -> dict[str, Any] | None:
            last.update(await self.call(call_id))
            return last if true(last) else None

        try:
            return await wait_for(look, seconds)
        except TimeoutError:
            raise AssertionError(f"not so within {seconds} s: {last}\n{self.node.node.output[-8000:]}") from None

    async def paid(self, call_id: str, seconds: float = 120.0) -> dict[str, Any]:
        """The call once it is over and settled."""
        return await self.until(call_id, lambda call: call["cost_usd_micros"] is not None, seconds)

    async def said(self, call_id: str) -> list[tuple[str, str]]:
        """Who said what."""
        status, told = await self.ask("GET", f"/v1/calls/{call_id}/transcript")
        assert status == 200, told
        return [(turn["who"], turn["text"]) for turn in told["items"]]

    async def ledger(self, call_id: str) -> list[tuple[str, int]]:
        """The lines of their statement that are about a call: kind and micro-dollars."""
        status, told = await self.ask("GET", "/v1/ledger")
        assert status == 200, told
        return [(line["kind"], line["usd_micros"]) for line in told["items"] if line.get("call") == call_id]


async def person(node: LiveNode) -> Person:
    """A new account, with everything that a call needs."""
    digits = next(_numbers)
    number = f"+1{digits}"
    consents = {"service": True, "calls": True, "transcripts": True, "recording": True}
    new = {"email": f"p{digits}@example.com", "password": PASSWORD, "adult": True, "consents": consents}
    status, made = await node.ask("POST", "/v1/accounts", new)
    assert status == 201, made
    one = Person(node, {"Authorization": f"Bearer {made['access_token']}"}, number, "", {})
    status, added = await one.ask("POST", "/v1/numbers", {"number": number})
    assert status == 201, added
    messages = (await node.tell_network("GET", "/messages"))["messages"]
    code = next(message["code"] for message in reversed(messages) if message["to"] == number)
    status, proven = await one.ask("POST", f"/v1/numbers/{added['id']}/verify", {"code": code})
    assert status == 200, proven
    one.number_id = added["id"]
    status, card = await one.ask("POST", "/v1/payment-methods", {"payment_method": "pm_card_visa"})
    assert status == 201, card
    _, listed = await one.ask("GET", "/v1/personas")
    one.personas = {persona["name"]: persona["id"] for persona in listed["items"]}
    return one


@contextlib.asynccontextmanager
async def paying_node(**settings: str) -> AsyncIterator[LiveNode]:
    """A node with a card processor beside it."""
    processor: Program = await program("-m", "transports.simulator.payments", "--secret-key", CALM["STRIPE_SECRET_KEY"])
    try:
        url = (await processor.wait_said(r"(http://127\.0\.0\.1:\d+)"))[1]
        async with live_node(**CALM | {"STRIPE_API_URL": url} | settings) as node:
            yield node
    finally:
        processor.process.kill()
        await processor.process.wait()
