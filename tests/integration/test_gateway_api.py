"""The operator's API: what it answers, what it refuses and how, and that it says when it cannot serve."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused, OutcomeUnknown
from tests.doubles.front import NUMBER, Front, front, problem

TO = "+15550177001"


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[Front]:
    async with front(database_url) as opened:
        yield opened


async def place(gateway: Front) -> str:
    async with gateway.client.post("/v1/operator/calls", json={"to": TO}) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["call"]["id"])


async def test_a_call_is_placed_and_can_be_read_at_the_address_it_was_given(gateway: Front) -> None:
    """COM-31, CMB-18: 201, Location, and the carrier was asked once, with our addresses."""
    async with gateway.client.post("/v1/operator/calls", json={"to": TO, "persona": "sam"}) as answer:
        assert answer.status == 201
        call = (await answer.json())["call"]
        assert answer.headers["Location"] == f"/v1/operator/calls/{call['id']}"
    assert (call["state"], call["persona"], call["to_number"]) == ("dialing", "sam", TO)
    [placed] = gateway.carrier.placed
    assert placed.answer_url == f"https://phone.example.com/twilio/answer/{call['id']}"
    assert placed.key == call["id"]
    async with gateway.client.get(f"/v1/operator/calls/{call['id']}") as answer:
        told = await answer.json()
    assert told["call"]["carrier_sid"] == call["carrier_sid"]
    assert told["turns"] == []
    assert [event["kind"] for event in told["events"]][:2] == ["state", "state"]


async def test_the_newest_calls_are_listed_first(gateway: Front) -> None:
    """COM-77: live and ended ones."""
    first, second = await place(gateway), await place(gateway)
    async with gateway.client.get("/v1/operator/calls") as answer:
        assert [call["id"] for call in (await answer.json())["calls"]] == [second, first]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ('{"to": "12"}', 422, "invalid-field"),
        ('{"to": "+15550177001", "persona": "nobody"}', 422, "unknown-persona"),
        ('{"to": "+15550177001", "persona": "../etc"}', 422, "unknown-persona"),
        ('{"to": "+15550177001", "loud": true}', 422, "invalid-field"),
        ("{}", 422, "invalid-field"),
        ("[]", 422, "invalid-field"),
        ("{", 400, "malformed-json"),
        ("", 400, "malformed-json"),
    ],
)
async def test_a_request_that_makes_no_sense_is_told_why(gateway: Front, body: str, status: int, kind: str) -> None:
    """COM-31: a problem document, and nobody is dialled."""
    headers = {"Content-Type": "application/json"}
    async with gateway.client.post("/v1/operator/calls", data=body, headers=headers) as answer:
        assert await problem(answer) == (status, kind)
    assert gateway.carrier.placed == []


@pytest.mark.parametrize("data", [b"\xff\xfe", b'{"to": "\xff"}'])
async def test_bytes_that_are_no_text_are_no_fault_of_ours(gateway: Front, data: bytes) -> None:
    """COM-31: 400, never 500."""
    headers = {"Content-Type": "application/json"}
    async with gateway.client.post("/v1/operator/calls", data=data, headers=headers) as answer:
        assert (await problem(answer))[0] == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/operator/calls/call_" + "0" * 32, 404, "call-not-found"),
        ("GET", "/v1/operator/calls/nonsense", 404, "call-not-found"),
        ("DELETE", "/v1/operator/calls/call_" + "0" * 32, 404, "call-not-found"),
        ("GET", "/v1/operator/calls/call_" + "0" * 32 + "/recording", 404, "call-not-found"),
        ("GET", "/nowhere", 404, "not-found"),
        ("PUT", "/v1/operator/calls", 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_document(
    gateway: Front, method: str, path: str, status: int, kind: str
) -> None:
    """COM-31: every error has the one shape."""
    async with gateway.client.request(method, path) as answer:
        assert await problem(answer) == (status, kind)


async def test_a_form_is_not_json_and_too_much_is_too_much(gateway: Front) -> None:
    """COM-31: 415 and 413."""
    async with gateway.client.post("/v1/operator/calls", data={"to": TO}) as answer:
        assert await problem(answer) == (415, "not-json")
    headers = {"Content-Type": "application/json"}
    async with gateway.client.post("/v1/operator/calls", data=b" " * 100_000, headers=headers) as answer:
        assert (await problem(answer))[0] == 413


async def test_a_full_node_refuses_with_a_time_to_come_back(gateway: Front) -> None:
    """COM-04: 503 with Retry-After, before anybody is dialled; the call is kept as rejected."""
    gateway.keeper.full = True
    async with gateway.client.post("/v1/operator/calls", json={"to": TO}) as answer:
        assert await problem(answer) == (503, "no-capacity")
        assert answer.headers["Retry-After"] == "7"
    assert gateway.carrier.placed == []
    [call] = await gateway.store.recent()
    assert (call.state, call.ended_reason) == ("rejected", "rejected_capacity")


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (CarrierRefused("the number is not allowed"), 422, "carrier-refused"),
        (CarrierBusy("slow down", 3.0), 503, "carrier-busy"),
        (CarrierDown("no route"), 502, "carrier-down"),
    ],
)
async def test_a_carrier_that_does_not_dial_leaves_a_failed_call_and_a_free_slot(
    gateway: Front, failure: Exception, status: int, kind: str
) -> None:
    """COM-13, COM-79: never a success, never a lost slot."""
    gateway.carrier.failure = failure
    async with gateway.client.post("/v1/operator/calls", json={"to": TO}) as answer:
        assert await problem(answer) == (status, kind)
    [call] = await gateway.store.recent()
    assert (call.state, call.ended_reason) == ("failed", "carrier_error")
    assert gateway.released() == [call.id]


async def test_a_dial_whose_outcome_nobody_knows_stays_dialing_and_is_not_repeated(gateway: Front) -> None:
    """COM-79: reconciliation finds out."""
    gateway.carrier.failure = OutcomeUnknown("the reply was lost")
    async with gateway.client.post("/v1/operator/calls", json={"to": TO}) as answer:
        assert answer.status == 201
        assert (await answer.json())["call"]["state"] == "dialing"
    assert gateway.released() == []


async def test_a_live_call_is_told_to_hang_up_and_a_ringing_one_is_ended_at_the_carrier(gateway: Front) -> None:
    """CMB-21: by whoever holds it, else through the carrier."""
    ringing = await place(gateway)
    async with gateway.client.delete(f"/v1/operator/calls/{ringing}") as answer:
        assert answer.status == 202
    call = await gateway.store.get(ringing)
    assert (call.state, call.ending_reason) == ("ending", "api")
    assert gateway.carrier.ended == [call.carrier_sid]
    live = await place(gateway)
    await gateway.store.issue_ticket(live)
    await gateway.hold(live)
    async with gateway.client.delete(f"/v1/operator/calls/{live}") as answer:
        assert answer.status == 202
    assert gateway.hang_ups() == ["api"]


async def test_a_call_that_another_node_holds_is_ended_through_the_carrier(gateway: Front) -> None:
    """CMB-21, COM-77: nobody here knows its actor, and yet it ends."""
    call_id = await place(gateway)
    serial = await gateway.store.issue_ticket(call_id)
    await gateway.store.claim(call_id, serial, "n2", "host-9")
    await gateway.store.advance(call_id, "in_progress")
    async with gateway.client.delete(f"/v1/operator/calls/{call_id}") as answer:
        assert answer.status == 202
    call = await gateway.store.get(call_id)
    assert (call.state, call.ending_reason) == ("ending", "api")
    assert gateway.carrier.ended == [call.carrier_sid]


async def test_hanging_up_a_call_that_is_over_changes_nothing(gateway: Front) -> None:
    """COM-13: terminal is terminal."""
    call_id = await place(gateway)
    await gateway.store.advance(call_id, "busy", reason="busy")
    async with gateway.client.delete(f"/v1/operator/calls/{call_id}") as answer:
        assert answer.status == 202
    assert (await gateway.store.get(call_id)).state == "busy"
    assert gateway.carrier.ended == []


async def test_a_page_that_follows_hears_of_every_change(gateway: Front) -> None:
    """CMB-19: server-sent events, within a second of the change."""
    async with gateway.client.get("/v1/operator/events") as stream:
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readline() == b": connected\n"
        call_id = await place(gateway)
        async with asyncio.timeout(5):
            async for line in stream.content:
                if line.startswith(b"data: ") and json.loads(line[6:])["call"] == call_id:
                    break


async def test_the_api_is_locked_where_a_token_is_set(database_url: str) -> None:
    """COM-77: 401 without it; probes, page and the carrier's webhooks need none."""
    async with front(database_url, node_operator_token="s3cret") as gateway:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic czNjcmV0"}):
            async with gateway.client.get("/v1/operator/calls", headers=headers) as answer:
                assert await problem(answer) == (401, "not-authorised")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        async with gateway.client.get("/v1/operator/calls", headers={"Authorization": "Bearer s3cret"}) as answer:
            assert answer.status == 200
        for path in ("/healthz", "/readyz", "/operator", "/reference", "/v1/openapi.json"):
            async with gateway.client.get(path) as answer:
                assert answer.status == 200
        assert (await gateway.rings(to=NUMBER))[0] == 200


async def test_readiness_fails_when_the_database_does_and_liveness_does_not(gateway: Front) -> None:
    """COM-57: 503 that names the dependency, well within five seconds."""
    async with gateway.client.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (
            200,
            {"status": "ready", "checks": {"database": "ok", "calls": "ok"}},
        )
    gateway.connections.terminate()
    async with asyncio.timeout(5):
        async with gateway.client.get("/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["checks"]["database"] != "ok"
        async with gateway.client.get("/v1/operator/calls") as answer:
            assert await problem(answer) == (503, "database-down")
            assert answer.headers["Retry-After"]
    async with gateway.client.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_draining_node_is_not_ready_and_lives(gateway: Front) -> None:
    """COM-16, COM-57: so a proxy brings its calls to another node."""
    gateway.keeper.draining = True
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["checks"] == {"database": "ok", "calls": "NotOpen"}
    async with gateway.client.get("/healthz") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("page", ["operator", "reference"])
async def test_our_pages_are_served_with_a_policy_that_lets_nothing_foreign_in(gateway: Front, page: str) -> None:
    """COM-34, COM-31: CSP, no sniffing, each file with its own type, and nothing asked of anybody else."""
    kinds = {f"/{page}": "text/html", f"/{page}/{page}.css": "text/css", f"/{page}/{page}.js": "text/javascript"}
    for path, kind in kinds.items():
        async with gateway.client.get(path) as answer:
            assert answer.status == 200
            assert answer.content_type in {kind, "application/javascript"}
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?https?://", await answer.text())


async def test_the_parts_say_which_of_them_are_stand_ins(gateway: Front) -> None:
    """Issue: real or stand-in, never in doubt; addresses stay inside."""
    async with gateway.client.get("/v1/operator/parts") as answer:
        parts = {part["name"]: part for part in (await answer.json())["parts"]}
    assert parts["brain"]["stand_in"] is True
    assert parts["database"]["stand_in"] is False
    assert all(set(part) == {"name", "engine", "stand_in"} for part in parts.values())
