"""Twilio's webhooks: proven, repeatable in any order, and answered by what the database says of the call."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from actors.hosts import Claim, Release, Reserve
from infra.database.call_records import Call
from tests.doubles.front import NUMBER, PUBLIC, TOKEN, Front, front, problem
from transports.simulator.webhooks import sign

SID = "CA" + "1" * 32
TO = "+15550177001"


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[Front]:
    async with front(database_url) as opened:
        yield opened


async def inbound(gateway: Front, *, held: bool = True) -> Call:
    """A call that has rung, been answered and, if `held`, been claimed by a host."""
    await gateway.rings(SID)
    call = await gateway.store.by_carrier_sid(SID)
    assert call is not None
    if held:
        await gateway.hold(call.id)
        await gateway.store.advance(call.id, "in_progress")
    return await gateway.store.get(call.id)


async def resume(gateway: Front, call: Call, status: str = "in-progress") -> str:
    code, text = await gateway.hook(f"/twilio/resume/{call.id}", CallSid=SID, CallStatus=status)
    assert code == 200, text
    return text


def ticket(twiml: str) -> str:
    found = re.search(r"/twilio/media/([\w-]+)", twiml)
    assert found, twiml
    return found[1]


async def test_a_call_to_our_number_is_connected_by_a_ticket_that_is_in_both_places(gateway: Front) -> None:
    """COM-73, CMB-18: path and parameter, a secure stream, and the way back."""
    code, twiml = await gateway.rings(SID)
    assert code == 200
    call = await gateway.store.by_carrier_sid(SID)
    assert call is not None
    assert f'action="{PUBLIC}/twilio/resume/{call.id}"' in twiml
    assert "wss://phone.example.com/twilio/media/" in twiml
    assert twiml.count(ticket(twiml)) == 2
    assert gateway.tickets.read(ticket(twiml)).call_id == call.id
    assert len(gateway.keeper.of(Reserve)) == 1


@pytest.mark.parametrize("path", ["/twilio/voice", "/twilio/status", "/twilio/resume/call_x", "/twilio/machine/call_x"])
async def test_what_the_carrier_did_not_sign_is_refused(gateway: Front, path: str) -> None:
    """COM-46: 403 as a problem document, and nothing is written."""
    assert (await gateway.hook(path, token="another-token", CallSid=SID))[0] == 403
    async with gateway.client.post(path, data={"CallSid": SID}) as answer:
        assert (await problem(answer))[0] == 403
    assert await gateway.store.recent() == ()


async def test_a_voice_webhook_sent_three_times_is_one_call(gateway: Front) -> None:
    """COM-46: every answer connects, only the newest ticket is good."""
    answers = [await gateway.rings(SID) for _ in range(3)]
    assert all(code == 200 for code, _ in answers)
    assert len(await gateway.store.recent()) == 1
    serials = [gateway.tickets.read(ticket(twiml)).serial for _, twiml in answers]
    assert serials == [1, 2, 3]


async def test_a_number_that_is_not_ours_is_rejected_unanswered(gateway: Front) -> None:
    """COM-73: and so free of charge."""
    code, twiml = await gateway.rings(SID, to="+15550999999")
    assert (code, "<Reject" in twiml) == (200, True)
    call = await gateway.store.by_carrier_sid(SID)
    assert call is not None
    assert (call.state, call.ended_reason) == ("rejected", "rejected_number")
    assert gateway.keeper.of(Reserve) == []
    assert "<Hangup" in (await gateway.rings(SID, to="+15550999999"))[1]


async def test_a_full_node_says_so_to_the_caller(gateway: Front) -> None:
    """COM-73, COM-04: a spoken refusal with a state of its own."""
    gateway.keeper.full = True
    _, twiml = await gateway.rings(SID)
    assert "<Say" in twiml
    assert "<Hangup" in twiml
    call = await gateway.store.by_carrier_sid(SID)
    assert call is not None
    assert (call.state, call.ended_reason) == ("rejected", "rejected_capacity")


async def test_a_call_that_rings_at_a_draining_node_is_brought_to_another(gateway: Front) -> None:
    """COM-16: it asks again by a new connection a few times before it is refused, and is one call all the while."""
    gateway.keeper.draining = True
    path, fields = "/twilio/voice", {"CallSid": SID, "From": "+15550199001", "To": NUMBER, "CallStatus": "ringing"}
    for tried in range(3):
        twiml = (await gateway.hook(f"{path}?try={tried}", **fields))[1]
        assert f"{path}?try={tried + 1}</Redirect>" in twiml
    [call] = await gateway.store.recent()
    assert call.state == "created"
    assert "<Say" in (await gateway.hook(f"{path}?try=3", **fields))[1]
    [call] = await gateway.store.recent()
    assert (call.state, call.ended_reason) == ("rejected", "rejected_capacity")


async def test_a_live_call_whose_stream_ended_is_sent_back_to_a_host(gateway: Front) -> None:
    """COM-15: a new ticket."""
    call = await inbound(gateway)
    twiml = await resume(gateway, call)
    assert gateway.tickets.read(ticket(twiml)).serial == call.ticket + 1


async def test_a_live_call_that_cannot_come_in_now_asks_again_by_a_new_connection(gateway: Front) -> None:
    """COM-16: a proxy brings that one to another node, while a kept one would stay with a node that drains."""
    call = await inbound(gateway)
    gateway.keeper.full = True
    path, fields = f"/twilio/resume/{call.id}", {"CallSid": SID, "CallStatus": "in-progress"}
    headers = {"X-Twilio-Signature": sign(TOKEN, PUBLIC + path, fields)}
    async with gateway.client.post(path, data=fields, headers=headers) as answer:
        assert answer.headers["Connection"] == "close"
        assert "try=1" in await answer.text()


async def test_a_call_that_we_ended_is_hung_up_and_has_its_terminal_state(gateway: Front) -> None:
    """COM-13: with the reason it began to end with."""
    call = await inbound(gateway)
    await gateway.store.advance(call.id, "ending", reason="bot_hung_up", epoch=1)
    assert "<Hangup" in await resume(gateway, call)
    after = await gateway.store.get(call.id)
    assert (after.state, after.ended_reason) == ("completed", "bot_hung_up")
    assert gateway.released() == [call.id]
    assert "<Hangup" in await resume(gateway, call)


async def test_a_call_that_broke_on_our_side_is_failed_not_completed(gateway: Front) -> None:
    """COM-02, COM-13: a crash never maps to success."""
    call = await inbound(gateway)
    await gateway.store.advance(call.id, "ending", reason="pipeline_error", epoch=1)
    assert "<Hangup" in await resume(gateway, call)
    assert (await gateway.store.get(call.id)).state == "failed"


async def test_a_stream_that_ended_because_the_caller_left_ends_the_call(gateway: Front) -> None:
    """COM-13: Twilio's own word in the same webhook."""
    call = await inbound(gateway)
    assert "<Hangup" in await resume(gateway, call, "completed")
    after = await gateway.store.get(call.id)
    assert (after.state, after.ended_reason) == ("completed", "caller_hung_up")


async def test_a_call_that_cannot_be_taken_now_waits_on_the_line_and_not_for_ever(gateway: Front) -> None:
    """COM-15, CMB-33: it asks again each second, and in the end is told."""
    call = await inbound(gateway)
    gateway.keeper.full = True
    twiml = await resume(gateway, call)
    assert "<Pause" in twiml
    assert f"/twilio/resume/{call.id}?try=1" in twiml
    path = f"/twilio/resume/{call.id}?try=30"
    _, twiml = await gateway.hook(path, CallSid=SID, CallStatus="in-progress")
    assert "<Say" in twiml


async def test_a_call_is_not_dropped_because_the_database_or_the_keeper_is_away(gateway: Front) -> None:
    """COM-15, COM-57: neither is the caller's business."""
    call = await inbound(gateway)
    await gateway.system.stop_actor("hosts")
    assert "<Pause" in await resume(gateway, call)
    gateway.connections.terminate()
    assert "<Pause" in await resume(gateway, call)


async def test_states_in_any_order_and_number_end_in_the_one_state(gateway: Front) -> None:
    """COM-46, CMB-19: late and repeated events move nothing back."""
    async with gateway.client.post("/v1/operator/calls", json={"to": TO}) as answer:
        call = (await answer.json())["call"]
    path, sid = f"/twilio/status/{call['id']}", call["carrier_sid"]
    for number, status in ((3, "completed"), (1, "ringing"), (3, "completed"), (2, "in-progress"), (0, "initiated")):
        code, _ = await gateway.hook(path, CallSid=sid, CallStatus=status, SequenceNumber=str(number))
        assert code == 204
    after = await gateway.store.get(call["id"])
    assert (after.state, after.ended_reason) == ("completed", "caller_hung_up")
    events = await gateway.store.events(call["id"])
    assert [e.data.get("carrier_status") for e in events if "carrier_status" in e.data].count("completed") == 1


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled"])
async def test_a_terminal_call_stays_what_it_is(gateway: Front, status: str) -> None:
    """COM-13: also when the carrier says something else later."""
    call = await inbound(gateway)
    await gateway.store.advance(call.id, "completed", reason="bot_hung_up")
    code, _ = await gateway.hook("/twilio/status", CallSid=SID, CallStatus=status, SequenceNumber="9")
    assert code == 204
    after = await gateway.store.get(call.id)
    assert (after.state, after.ended_reason) == ("completed", "bot_hung_up")


async def test_a_webhook_that_overtakes_the_reply_to_the_dial_binds_the_call(gateway: Front) -> None:
    """COM-79: and another carrier's call cannot take its place."""
    call = await gateway.store.create("outbound", "mia", NUMBER, TO)
    code, twiml = await gateway.hook(f"/twilio/answer/{call.id}", CallSid=SID, CallStatus="in-progress")
    assert code == 200
    assert ticket(twiml)
    assert (await gateway.store.get(call.id)).carrier_sid == SID
    assert (await gateway.hook(f"/twilio/status/{call.id}", CallSid="CA" + "2" * 32, CallStatus="busy"))[0] == 409


async def test_a_machine_that_picked_up_is_not_talked_to(gateway: Front) -> None:
    """CMB-20: the live call ends as voicemail; a person is left alone."""
    call = await inbound(gateway)
    assert (await gateway.hook(f"/twilio/machine/{call.id}", CallSid=SID, AnsweredBy="human"))[0] == 204
    assert gateway.hang_ups() == []
    assert (await gateway.hook(f"/twilio/machine/{call.id}", CallSid=SID, AnsweredBy="machine_start"))[0] == 204
    assert gateway.hang_ups() == ["voicemail"]
    await gateway.store.advance(call.id, "ending", reason="voicemail", epoch=1)
    await resume(gateway, call)
    assert (await gateway.store.get(call.id)).state == "voicemail"


async def test_the_media_socket_needs_a_signature_and_a_ticket_of_ours(gateway: Front) -> None:
    """CMB-18, COM-46: 403 for either; no host is asked."""
    _, twiml = await gateway.rings(SID)
    good = ticket(twiml)
    async with gateway.client.get(f"/twilio/media/{good}") as answer:
        assert (await problem(answer))[0] == 403
    for token in ("nonsense", good[:-2] + "AA"):
        path = f"/twilio/media/{token}"
        async with gateway.client.get(path, headers={"X-Twilio-Signature": sign(TOKEN, PUBLIC + path, {})}) as answer:
            assert await problem(answer) == (403, "ticket-invalid")
    assert gateway.keeper.of(Claim) == []


async def test_a_media_socket_that_nobody_can_take_is_refused_with_a_time_to_come_back(gateway: Front) -> None:
    """COM-04: 503 and Retry-After."""
    _, twiml = await gateway.rings(SID)
    gateway.keeper.full = True
    path = f"/twilio/media/{ticket(twiml)}"
    async with gateway.client.get(path, headers={"X-Twilio-Signature": sign(TOKEN, PUBLIC + path, {})}) as answer:
        assert await problem(answer) == (503, "no-capacity")
        assert answer.headers["Retry-After"]


async def test_a_host_that_does_not_take_the_socket_keeps_no_slot(gateway: Front) -> None:
    """COM-04: what was claimed for this ticket is let go of at once, and the carrier may come again by it."""
    _, twiml = await gateway.rings(SID)
    path = f"/twilio/media/{ticket(twiml)}"
    upgrade = {
        "X-Twilio-Signature": sign(TOKEN, PUBLIC + path, {}),
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with gateway.client.get(path, headers=upgrade) as answer:
        assert await problem(answer) == (503, "no-capacity")
    call = await gateway.store.by_carrier_sid(SID)
    assert call is not None
    assert gateway.keeper.of(Release) == [Release(call.id, "host-1", 1)]


async def test_a_new_caller_is_not_turned_away_by_a_moment_without_the_database(gateway: Front) -> None:
    """COM-57, COM-73: they wait a moment on the line, and after a few tries are told that we cannot."""
    gateway.connections.terminate()
    status, twiml = await gateway.rings(SID)
    assert (status, "/twilio/voice?try=1" in twiml) == (200, True)
    _, twiml = await gateway.hook("/twilio/voice?try=4", CallSid=SID, From="+15550199001", To=NUMBER)
    assert "<Say" in twiml


async def test_a_webhook_about_a_call_that_is_not_ours_is_not_found(gateway: Front) -> None:
    """COM-31: 404, not 500."""
    assert (await gateway.hook("/twilio/status", CallSid=SID, CallStatus="completed"))[0] == 404
    unknown = "call_" + "0" * 32
    assert (await gateway.hook(f"/twilio/resume/{unknown}", CallSid=SID, CallStatus="in-progress"))[0] == 404


async def test_a_call_whose_media_was_lost_did_not_end_by_the_callers_wish(gateway: Front) -> None:
    """COM-13: the carrier's `completed` of a call that nobody held is our failure, and says so."""
    call = await inbound(gateway)
    await gateway.store.release(call.id, call.epoch)
    await gateway.hook("/twilio/status", CallSid=SID, CallStatus="completed", SequenceNumber="3")
    call = await gateway.store.get(call.id)
    assert (call.state, call.ended_reason) == ("failed", "stream_lost")


async def test_where_a_draining_node_is_the_only_one_its_calls_wait_until_it_is_back(gateway: Front) -> None:
    """COM-16: longer than it takes to drain and start; with another node about, they go there at once."""
    call = await inbound(gateway)
    gateway.keeper.draining = True
    drain_s = gateway.board.settings.node.drain_seconds
    [pause] = re.findall(r'<Pause length="(\d+)"', await resume(gateway, call))
    assert int(pause) > drain_s + 5
    await gateway.board.nodes.register("another", "http://another", 1)
    [pause] = re.findall(r'<Pause length="(\d+)"', await resume(gateway, call))
    assert int(pause) == 1
