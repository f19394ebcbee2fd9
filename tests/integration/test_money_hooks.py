"""Webhooks of money end to end: the double signs and sends, the routes verify and keep, the bookkeeper applies."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from infra.database.inbox import TRIES, Inbox, WebhookEvent
from infra.database.pool import pool
from infra.ids import new_id
from infra.money import HoldState, PaymentsDown
from infra.settings import Settings, load
from scheduler.bookkeeper import Bookkeeper
from tests.doubles.payers import Payers, payers
from transports.http.hooks import Hooks
from transports.http.problems import problems
from transports.simulator.payments.double import Config

SECRET = "whsec_hooks"
NEWEST_FIRST = "update inbox set state = 'received', next_at = now() - (received_at - timestamptz '2026-01-01')"
TOLD: dict[str, Any] = {
    "stripe_webhook_secret": SECRET,
    "polar_webhook_secret": "polar_secret",
    "revenuecat_authorization": "Bearer agreed",
}


@dataclass
class Post:
    """The routes, what they keep, and who applies it."""

    client: TestClient[Any, Any]
    inbox: Inbox
    they: Payers
    keeper: Bookkeeper

    async def settled(self) -> None:
        """Everything is delivered and applied."""
        await self.they.double.delivered(20)
        while await self.inbox.waiting():
            await self.keeper.apply()

    async def again(self) -> None:
        """Every event is applied once more, the newest first."""
        await self.they.pool.execute(NEWEST_FIRST)
        assert await self.keeper.apply() > 0
        assert await self.inbox.replay(state="done") > 0
        assert await self.keeper.apply() > 0


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=4) as opened:
        yield opened


def routes(settings: Settings, inbox: Inbox) -> web.Application:
    app = web.Application(middlewares=[problems])
    app.add_routes(Hooks(settings, inbox).routes())
    return app


@pytest.fixture
async def post(connections: asyncpg.Pool) -> AsyncIterator[Post]:
    inbox = Inbox(connections)
    async with (
        TestClient(TestServer(routes(load(environ={}, **TOLD), inbox))) as client,
        payers(connections, Config(webhook_secret=SECRET, retry_s=0.02)) as they,
    ):
        they.double.aim(str(client.make_url("/hooks/stripe")), SECRET)
        yield Post(client, inbox, they, Bookkeeper(they.money, inbox))


async def live(they: Payers) -> tuple[str, ...]:
    """A few calls of every kind; the ids of their holds."""
    paid, unanswered, back = await they.held(), await they.held(), await they.held()
    await they.money.settle(paid.id, 61)
    await they.money.settle(unanswered.id, 0)
    await they.money.settle(back.id, 61)
    await they.money.refund(back.id, 400_000, reason="r", actor="support:mia", key="a")
    return paid.id, unanswered.id, back.id, (await they.held()).id


async def standing(they: Payers) -> list[tuple[Any, ...]]:
    rows = await they.pool.fetch(
        "select id, state, captured_usd_micros, refunded_usd_micros from holds"
        " union all select id, state, usd_micros, 0 from refunds order by 1"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [{"kind": "webhook_duplicate"}, {"kind": "webhook_reorder", "probability": 0.5}],
        [{"kind": "webhook_late", "ms": 80, "probability": 0.5}, {"kind": "webhook_duplicate", "probability": 0.5}],
    ],
)
async def test_events_in_any_order_and_number_change_nothing_that_is_known(
    post: Post, faults: list[dict[str, Any]]
) -> None:
    """CMB-59, COM-46: tripled, shuffled and late; the same state, and nothing is taken or booked twice."""
    post.they.double.inflict(*faults)
    await live(post.they)
    before = await standing(post.they)
    await post.settled()
    assert await standing(post.they) == before
    for _ in range(2):
        await post.again()
    assert await standing(post.they) == before
    assert await post.they.balanced()
    kept = await post.they.pool.fetchval("select count(*) from inbox")
    assert kept == len({delivery["event"] for delivery in post.they.double.deliveries})


async def test_an_event_alone_brings_a_hold_whose_answers_were_all_lost_to_its_state(post: Post) -> None:
    """CMB-60: the process that asked is dead; what it asked for is known all the same."""
    they = post.they
    owner, call_id = await they.payer(), new_id("call")
    lost = {"kind": "rest_lost_reply", "path": "/v1/payment_intents*"}
    they.double.inflict(lost)
    with pytest.raises(PaymentsDown):
        await they.money.hold(owner, call_id, 15)
    assert (await they.one_hold()).state is HoldState.INTENT
    they.double.lift()
    await post.settled()
    hold = await they.one_hold()
    assert hold.state is HoldState.HELD
    they.double.inflict(lost)
    with pytest.raises(PaymentsDown):
        await they.money.settle(hold.id, 61)
    they.double.lift()
    await post.settled()
    assert ((await they.one_hold()).state, (await they.one_hold()).captured_usd_micros) == ("captured", 1_050_000)
    assert await they.balanced()


async def test_an_expiry_that_nobody_asked_about_is_told_by_its_event(post: Post) -> None:
    """CMB-59."""
    hold = await post.they.held()
    post.they.double.advance(8 * 86_400)
    await post.settled()
    found = await post.they.money.hold_of(hold.call_id)
    assert found is not None
    assert (found.state, found.why) == ("released", "expired")


async def test_a_card_saved_in_a_browser_that_closed_is_there(post: Post) -> None:
    """CMB-56."""
    owner = await post.they.payer()
    await post.they.browser(owner, "pm_card_mastercard")
    await post.settled()
    assert {method.brand for method in await post.they.money.methods(owner)} == {"visa", "mastercard"}


async def test_forged_and_stale_events_are_refused_and_kept_nowhere(post: Post) -> None:
    """CMB-59, COM-46: 4xx for each; the provider sends the true one again."""
    for kind in ("webhook_bad_signature", "webhook_stale"):
        post.they.double.inflict({"kind": kind, "times": 2})
        await post.they.held()
        await post.settled()
    told = [attempt["status"] for delivery in post.they.double.deliveries for attempt in delivery["attempts"]]
    assert told.count(403) == 4
    assert set(told) == {200, 403}
    assert await post.they.pool.fetchval("select count(*) from inbox") == len(post.they.double.deliveries)
    for headers in ({}, {"Stripe-Signature": "t=1,v1=abc"}):
        async with post.client.post("/hooks/stripe", data=b'{"id": "evt_forged"}', headers=headers) as answer:
            assert answer.status == 403
            assert (await answer.json())["type"].endswith("signature-invalid")
    assert not await post.they.pool.fetchval("select count(*) from inbox where event_id = 'evt_forged'")


async def test_an_event_is_acknowledged_at_once_while_nothing_can_be_applied(post: Post) -> None:
    """COM-46: within a second under load; the answer waits for one insert, not for the work."""
    body = [
        json.dumps({"id": f"evt_{n}", "type": "charge.updated", "data": {"object": {}}}).encode() for n in range(200)
    ]

    async def send(raw: bytes) -> float:
        at = time.time()
        signed = hmac.new(SECRET.encode(), f"{at:.0f}.".encode() + raw, hashlib.sha256).hexdigest()
        began = time.perf_counter()
        headers = {"Stripe-Signature": f"t={at:.0f},v1={signed}"}
        async with post.client.post("/hooks/stripe", data=raw, headers=headers) as answer:
            assert answer.status == 200
        return time.perf_counter() - began

    for start in range(0, len(body), 20):
        assert max(await asyncio.gather(*(send(raw) for raw in body[start : start + 20] * 3))) < 1.0
    assert await post.inbox.waiting() == 200


async def test_polar_and_revenuecat_are_heard(post: Post) -> None:
    """COM-40, COM-46: each by its own proof, once by its own id."""
    polar = json.dumps({"type": "order.paid", "data": {"id": "order_1"}}).encode()
    at = f"{time.time():.0f}"
    signed = hmac.new(b"polar_secret", f"msg_1.{at}.".encode() + polar, hashlib.sha256).digest()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }
    revenuecat = json.dumps({"api_version": "1.0", "event": {"id": "rc_1", "type": "INITIAL_PURCHASE"}}).encode()
    agreed = {"Authorization": "Bearer agreed"}
    for path, raw, proof in (("polar", polar, headers), ("revenuecat", revenuecat, agreed)):
        for _ in range(3):
            async with post.client.post(f"/hooks/{path}", data=raw, headers=proof) as answer:
                assert answer.status == 200
        async with post.client.post(f"/hooks/{path}", data=raw) as answer:
            assert answer.status == 403
    listed = {(event.provider, event.event_id, event.kind) for event in await post.inbox.list()}
    assert listed == {("polar", "msg_1", "order.paid"), ("revenuecat", "rc_1", "INITIAL_PURCHASE")}
    await post.settled()
    assert {event.state for event in await post.inbox.list()} == {"done"}


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"id": 1, "type": "x"}', b'{"type": "x"}', b"\xff"])
async def test_a_signed_body_that_is_no_event_is_told_so(post: Post, raw: bytes) -> None:
    """COM-46: 400, and nothing breaks."""
    at = f"{time.time():.0f}"
    signed = hmac.new(SECRET.encode(), f"{at}.".encode() + raw, hashlib.sha256).hexdigest()
    async with post.client.post(
        "/hooks/stripe", data=raw, headers={"Stripe-Signature": f"t={at},v1={signed}"}
    ) as answer:
        assert answer.status == 400
    async with post.client.post("/hooks/revenuecat", data=raw, headers={"Authorization": "Bearer agreed"}) as answer:
        assert answer.status == 400


async def test_a_provider_whose_secret_is_not_set_is_refused(connections: asyncpg.Pool) -> None:
    """COM-46: no secret is no open door."""
    async with TestClient(TestServer(routes(load(environ={}), Inbox(connections)))) as client:
        for name in ("stripe", "polar", "revenuecat"):
            empty = hmac.new(b"", b"1.{}", hashlib.sha256).hexdigest()
            async with client.post(
                f"/hooks/{name}", data=b"{}", headers={"Authorization": "", "Stripe-Signature": f"t=1,v1={empty}"}
            ) as answer:
                assert answer.status == 403


async def test_an_event_that_cannot_be_applied_is_tried_again_and_in_the_end_given_up(
    connections: asyncpg.Pool,
) -> None:
    """COM-46: later each time; an operator replays what was given up."""
    inbox, asked = Inbox(connections), 0

    async def apply(event: WebhookEvent) -> None:
        nonlocal asked
        asked += 1
        if asked < TRIES + 3:
            raise PaymentsDown("the processor is away")

    assert await inbox.receive("stripe", "evt_1", "charge.updated", {})
    assert not await inbox.receive("stripe", "evt_1", "charge.updated", {})
    for _ in range(TRIES + 2):
        await inbox.apply({"stripe": apply})
        waits = await connections.fetchval("select next_at > now() from inbox")
        assert waits or asked >= TRIES
        await connections.execute("update inbox set next_at = now()")
    [event] = await inbox.list()
    assert (event.state, event.attempts, asked) == ("dead", TRIES, TRIES)
    assert event.error is not None
    assert "the processor is away" in event.error
    assert await inbox.apply({"stripe": apply}) == 0
    assert await inbox.replay(event_id="evt_1") == 1
    assert await inbox.replay(event_id="evt_2") == 0
    for _ in range(3):
        await inbox.apply({"stripe": apply})
        await connections.execute("update inbox set next_at = now()")
    assert [event.state for event in await inbox.list(state="done", provider="stripe")] == ["done"]
    with pytest.raises(ValueError, match="Name an event"):
        await inbox.replay()


async def test_two_nodes_apply_each_event_once_at_a_time(connections: asyncpg.Pool) -> None:
    """COM-46: a second worker does not take what the first is at."""
    inbox = Inbox(connections)
    for number in range(10):
        await inbox.receive("stripe", f"evt_{number}", "charge.updated", {})
    seen: list[str] = []

    async def apply(event: WebhookEvent) -> None:
        seen.append(event.event_id)
        await asyncio.sleep(0)

    done = await asyncio.gather(*(inbox.apply({"stripe": apply}, limit=4) for _ in range(4)))
    assert sum(done) == 10
    assert sorted(seen) == sorted(set(seen))
