"""A gateway's routes over a real database, with a carrier, a host keeper and calls that a test looks into."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from actors.hosts import DRAINING, Claim, Full, Placed, Probe, Release, Reserve, Reserved
from actors.orders import HangUp
from actors.runtime import Actor, ActorSpec, Message, System
from infra.database.pool import pool
from infra.identity.principal import Principal
from infra.ids import new_id
from infra.limits import limiting
from infra.settings import Settings, load
from infra.telephony.carrier import CarrierCall, Placement
from transports.gateway import announcing, application
from transports.http.api import Operation
from transports.http.events import Announcements
from transports.http.health import Health
from transports.http.services import Services
from transports.parts import parts_of
from transports.simulator.webhooks import sign
from transports.switchboard import Switchboard

PUBLIC = "https://phone.example.com"
TOKEN = "simulator-auth-token"
NUMBER = "+15550100000"
MANY = 1_000_000
DEFAULTS: dict[str, Any] = {
    "node_public_url": PUBLIC,
    "twilio_api_url": "http://127.0.0.1:9",
    "vault_master_key": base64.b64encode(bytes(32)).decode(),
    **{f"limits_{kind}": MANY for kind in ("read", "write", "calls", "auth", "verify")},
}


class Keeper(Actor):
    """A host keeper that has room until it is told otherwise."""

    def __init__(self) -> None:
        self.full = self.draining = False
        self.told: list[Message] = []

    async def receive(self, message: Message) -> Message | None:
        self.told.append(message)
        match message:
            case Probe():
                return DRAINING if self.draining else Reserved()
            case Reserve() if self.draining:
                return DRAINING
            case Reserve():
                return Full("every slot is taken", 7) if self.full else Reserved()
            case Claim():
                return Full("no host has a free slot", 1) if self.full else Placed("host-1", "/nowhere.sock")
        return None

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.told if isinstance(message, kind)]


class LiveCall(Actor):
    """A call's actor that only listens."""

    def __init__(self, orders: list[Message]) -> None:
        self._orders = orders

    async def receive(self, message: Message) -> None:
        self._orders.append(message)


class Carrier:
    """A carrier that does what it is asked, or fails once with `failure`."""

    def __init__(self) -> None:
        self.placed: list[Placement] = []
        self.ended: list[str] = []
        self.calls: dict[str, CarrierCall] = {}
        self.failure: Exception | None = None

    async def place(self, placement: Placement) -> CarrierCall:
        self._fail()
        self.placed.append(placement)
        sid = f"CA{len(self.placed):032d}"
        self.calls[sid] = CarrierCall(sid, "queued", "dialing", placement.to, placement.from_number)
        return self.calls[sid]

    async def end(self, sid: str) -> None:
        self._fail()
        self.ended.append(sid)

    async def redirect(self, sid: str, url: str) -> None:
        raise NotImplementedError

    async def get(self, sid: str) -> CarrierCall:
        self._fail()
        return self.calls[sid]

    async def list(self, to: str, since: datetime, limit: int = 50) -> tuple[CarrierCall, ...]:
        self._fail()
        return tuple(call for call in self.calls.values() if call.to == to)

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


class People:
    """Sessions that a test hands out: a token proves whoever it was made for."""

    def __init__(self) -> None:
        self._known: dict[str, Principal] = {}

    def admit(self, user_id: str, role: str = "user") -> dict[str, str]:
        """Headers that prove this user."""
        token = f"token-of-{user_id}"
        self._known[token] = Principal(user_id, role, new_id("session"))
        return {"Authorization": f"Bearer {token}"}

    async def authenticate(self, access_token: str) -> Principal | None:
        return self._known.get(access_token)


class Front:
    """The gateway's face."""

    def __init__(self, client: TestClient[Any, Any], services: Services, system: System, keeper: Keeper) -> None:
        self.client, self.services, self.system, self.keeper = client, services, system, keeper
        self.board = services.switchboard
        self.store, self.tickets = self.board.store, self.board.tickets
        self.carrier: Carrier = self.board.carrier  # type: ignore[assignment]
        self.orders: list[Message] = []
        self.people = People()
        self.connections: asyncpg.Pool

    async def hook(self, path: str, token: str = TOKEN, **fields: str) -> tuple[int, str]:
        """A webhook as Twilio sends it: status and body."""
        headers = {"X-Twilio-Signature": sign(token, PUBLIC + path, fields)}
        async with self.client.post(path, data=fields, headers=headers) as answer:
            return answer.status, await answer.text()

    async def rings(self, sid: str = "CA" + "1" * 32, to: str = NUMBER) -> tuple[int, str]:
        """Somebody dials us."""
        fields = {"CallSid": sid, "From": "+15550199001", "To": to, "CallStatus": "ringing"}
        return await self.hook("/twilio/voice", **fields)

    async def hold(self, call_id: str) -> None:
        """Let the call be live on this node: claimed by its newest ticket, its actor listening."""
        call = await self.store.get(call_id)
        await self.store.claim(call_id, call.ticket, "n1", "host-1")
        await self.system.spawn(ActorSpec(lambda: LiveCall(self.orders), f"call/{call_id}"))

    async def join(self, role: str = "user") -> tuple[str, dict[str, str]]:
        """A new user, with a data key of their own; their id, and the headers that prove them to `People`."""
        user_id = new_id("user")
        await self.connections.execute(
            "insert into users (id, email, email_verified_at, role) values ($1, $2, now(), $3)",
            user_id,
            f"{user_id}@example.com",
            role,
        )
        await self.services.vault.open_user(user_id)
        return user_id, self.people.admit(user_id, role)

    def hang_ups(self) -> list[str]:
        return [order.reason for order in self.orders if isinstance(order, HangUp)]

    def released(self) -> list[str]:
        return [message.call for message in self.keeper.told if isinstance(message, Release)]


async def problem(answer: ClientResponse) -> tuple[int, str]:
    """Status and the last part of the type of a problem document, which every error must be."""
    assert answer.content_type == "application/problem+json", await answer.text()
    document = await answer.json()
    assert {"type", "title", "status", "detail"} <= set(document)
    assert document["status"] == answer.status
    assert document["detail"]
    return answer.status, document["type"].rpartition("/")[2]


@contextlib.asynccontextmanager
async def front(
    database_url: str,
    *,
    cache: str = "",
    people: People | None = None,
    operations: Sequence[Operation] | None = None,
    dress: Callable[[Services], Services] = lambda services: services,
    **overrides: Any,
) -> AsyncIterator[Front]:
    """Serve the routes for the length of the block.

    `cache` is a Valkey to count requests in, `people` whose tokens count instead of real sessions, `operations` an API
    of the test's own, `dress` exchanges services.
    """
    told: Settings = load(environ={}, **DEFAULTS | overrides)
    keeper, announcements = Keeper(), Announcements()
    async with (
        pool(database_url, max_size=4) as connections,
        System("gateway") as system,
        limiting(told.limits, cache) as limiter,
        contextlib.AsyncExitStack() as stack,
    ):
        reference = await system.spawn(ActorSpec(lambda: keeper, "hosts"))
        board = Switchboard.of(told, connections, Carrier(), system, reference.address)
        services = Services.of(told, connections, board, announcements, limiter, parts_of(told, "db", "cache"))
        identity = services.identity
        for close in (services.money.close, services.voices.close, services.passages.close, identity.accounts.close):
            stack.push_async_callback(close)
        stack.push_async_callback(identity.oidc.close)
        stack.push_async_callback(identity.verifier.close)
        if people is not None:
            services = replace(services, sessions=people)
        services = dress(services)
        checks = {"database": lambda: connections.fetchval("select 1"), "calls": board.check_open}
        async with announcing(database_url, announcements):
            app = application(services, Health(checks), operations)
            async with TestClient(TestServer(app)) as client:
                face = Front(client, services, system, keeper)
                face.connections = connections
                if people is not None:
                    face.people = people
                try:
                    yield face
                finally:
                    announcements.close()
