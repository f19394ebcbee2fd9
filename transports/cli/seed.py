"""The demo's account, made over the public API as a person would make one on the page: once, then signed in to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from tzlocal import get_localzone_name

EMAIL = "demo@ringdown.example"
PASSWORD = "give me a ring"  # noqa: S105  (the demo's, told to everybody)
NUMBER = "+12025550143"  # of the range that is kept for fiction; the phone network in a box picks it up
CARD = "pm_card_visa"
FRIEND = "Mia"  # whom whoever picks up that number has the right answers for
WAIT = aiohttp.ClientTimeout(total=20)


class SeedError(Exception):
    """The demo's account could not be made; the message says at which step and what the server answered."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a stranger types on the page."""

    email: str
    password: str
    number: str


async def seed(url: str, phone_network: str) -> Login:
    """Make the demo's account on the node at `url`, with a proven number and a card; repeated, it changes nothing.

    Raises:
        SeedError: the node refused a step.
        aiohttp.ClientError: the node or the phone network cannot be reached.
    """
    async with aiohttp.ClientSession(timeout=WAIT) as session:
        person = _Person(session, url)
        if await person.sign_up():
            await person.prove_number(phone_network)
            await person.call("POST", "/v1/payment-methods", {"payment_method": CARD})
            await person.keep_at_hand(FRIEND)
    return Login(EMAIL, PASSWORD, NUMBER)


class _Person:
    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self._headers: dict[str, str] = {}

    async def sign_up(self) -> bool:
        """Whether the account is new."""
        login = {"email": EMAIL, "password": PASSWORD}
        async with self._session.post(f"{self._url}/v1/sessions", json=login) as answer:
            if answer.ok:
                return False
        consents = {"service": True, "calls": True, "transcripts": True, "recording": True}
        zone = get_localzone_name() or "UTC"
        new = login | {"name": "Demo", "zone": zone, "adult": True, "consents": consents}
        made = await self.call("POST", "/v1/accounts", new)
        self._headers = {"Authorization": f"Bearer {made['access_token']}"}
        return True

    async def prove_number(self, phone_network: str) -> None:
        """Claim the number and type the code that the phone network shows."""
        number = await self.call("POST", "/v1/numbers", {"number": NUMBER})
        async with self._session.get(f"{phone_network}/simulator/messages") as answer:
            messages = (await answer.json())["messages"]
        code = next(message["code"] for message in reversed(messages) if message["to"] == NUMBER)
        await self.call("POST", f"/v1/numbers/{number['id']}/verify", {"code": code})

    async def keep_at_hand(self, name: str) -> None:
        """Make a persona the favourite that one tap calls."""
        personas = await self.call("GET", "/v1/personas")
        persona = next(persona["id"] for persona in personas["items"] if persona["name"] == name)
        await self.call("PUT", f"/v1/contacts/{persona}")

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request that must succeed."""
        async with self._session.request(method, f"{self._url}{path}", json=body, headers=self._headers) as answer:
            text = await answer.text()
            if not answer.ok:
                raise SeedError(f"The demo's account: {method} {path} answered {answer.status}: {text}")
            found: dict[str, Any] = msgspec.json.decode(text or "{}")
            return found
