"""Whole calls over the carrier's wire format: a real node, a real phone network, real audio, no double inside."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from tests.doubles.live_node import LiveNode, live_node

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[LiveNode]:
    async with live_node() as started:
        yield started


def kinds(told: dict[str, Any]) -> list[str]:
    return [event["kind"] for event in told["events"]]


async def spoken_to(node: LiveNode, call_id: str) -> dict[str, Any]:
    """The call once its caller has heard a whole turn."""
    return await node.wait_call(call_id, lambda told: any(turn["done"] for turn in told["turns"]))


@pytest.mark.heavy
async def test_a_conversation_goes_from_its_disclosure_to_its_goodbye_and_is_recorded_with_consent(
    node: LiveNode,
) -> None:
    """COM-12, COM-13, COM-73, CMB-18, CMB-24: heard, answered, recorded on two channels only after the yes."""
    sid = await node.dial("friend")
    call_id = await node.by_sid(sid)
    told = await node.wait_over(call_id)
    call, turns = told["call"], told["turns"]
    assert (call["state"], call["ended_reason"]) == ("completed", "bot_hung_up"), told
    assert [turn["number"] for turn in turns] == list(range(1, len(turns) + 1))
    bot = [turn for turn in turns if turn["who"] == "bot"]
    caller = [turn for turn in turns if turn["who"] == "caller"]
    assert bot[0]["text"].startswith("Hi, this is Mia, an AI companion")
    assert all(turn["done"] for turn in turns), turns
    assert bot[-1]["spoken"].endswith("Goodbye."), bot
    assert caller, turns
    consent = next(event for event in told["events"] if event["kind"] == "consent")
    assert consent["data"]["granted"] is True, turns
    told = await node.wait_call(call_id, lambda told: told["call"]["recording"])
    async with node.session.get(f"{node.url}/v1/operator/calls/{call_id}/recording") as answer:
        assert answer.status == 200
        with wave.open(io.BytesIO(await answer.read())) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, 8000)
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
    assert np.abs(sound[:, 0]).max() > 1000, "the caller is not in the recording"
    assert np.abs(sound[:, 1]).max() > 1000, "the bot is not in the recording"
    answered = np.datetime64(call["answered_at"].rstrip("Z"))
    began, ended = (np.datetime64(at.rstrip("Z")) for at in (consent["at"], call["ended_at"]))
    assert began > answered
    assert len(sound) / 8000 <= (ended - began) / np.timedelta64(1, "s") + 2.0


async def test_a_caller_who_hangs_up_ends_a_completed_call(node: LiveNode) -> None:
    """COM-13, CMB-21: the reason is theirs, not ours; what they did not hear does not count as spoken."""
    sid = await node.dial("impatient")
    call_id = await node.by_sid(sid)
    told = await node.wait_over(call_id)
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "caller_hung_up"), told
    assert told["turns"][0]["spoken"] != told["turns"][0]["text"]
    finished = await node.wait_finished(sid)
    assert finished["status"] == "completed"
    assert not finished["protocol_errors"]
    async with node.session.get(f"{node.url}/v1/operator/calls/{call_id}/recording") as answer:
        assert answer.status == 404, "nobody consented, so there is no recording"


async def test_a_call_placed_by_the_api_is_dialled_answered_and_followed_to_its_end(node: LiveNode) -> None:
    """CMB-18, CMB-19: dialing, in progress, completed; each state is an event."""
    await node.tell_network("POST", "/numbers", {"number": "+15550177001", "persona": "impatient"})
    status, placed = await node.ask("POST", "/v1/operator/calls", {"to": "+15550177001"})
    assert status == 201, placed
    told = await node.wait_over(placed["call"]["id"])
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "caller_hung_up"), told
    states = [event["data"]["state"] for event in told["events"] if event["kind"] == "state"]
    wanted = ["created", "authorising", "dialing", "ringing", "in_progress", "ending", "completed"]
    assert states == sorted(states, key=wanted.index), states
    assert {"dialing", "in_progress", "completed"} <= set(states)


@pytest.mark.parametrize(
    ("persona", "state", "reason"),
    [("busy", "busy", "busy"), ("failed", "failed", "carrier_error"), ("voicemail", "voicemail", "voicemail")],
)
async def test_a_call_that_reaches_nobody_says_why(node: LiveNode, persona: str, state: str, reason: str) -> None:
    """COM-13, CMB-20: busy, failed and a machine each have a state of their own, and none is a success."""
    number = f"+1555017800{['busy', 'failed', 'voicemail'].index(persona)}"
    await node.tell_network("POST", "/numbers", {"number": number, "persona": persona})
    status, placed = await node.ask("POST", "/v1/operator/calls", {"to": number})
    assert status == 201, placed
    told = await node.wait_over(placed["call"]["id"])
    assert (told["call"]["state"], told["call"]["ended_reason"]) == (state, reason), told


@pytest.mark.heavy
async def test_a_call_that_nobody_answers_is_no_answer(node: LiveNode) -> None:
    """COM-13: after the ringing time."""
    await node.tell_network("POST", "/numbers", {"number": "+15550177009", "persona": "no-answer"})
    _, placed = await node.ask("POST", "/v1/operator/calls", {"to": "+15550177009"})
    told = await node.wait_over(placed["call"]["id"])
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("no_answer", "no_answer"), told


async def test_a_live_call_is_hung_up_by_the_api(node: LiveNode) -> None:
    """CMB-21: 202 at once, and the carrier's line goes dead with it."""
    sid = await node.dial("talker")
    call_id = await node.by_sid(sid)
    await spoken_to(node, call_id)
    status, _ = await node.ask("DELETE", f"/v1/operator/calls/{call_id}")
    assert status == 202
    told = await node.wait_over(call_id)
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "api"), told
    assert (await node.wait_finished(sid))["status"] == "completed"
    assert kinds(told).count("claimed") == 1


async def test_a_call_that_still_rings_is_hung_up_by_the_api(node: LiveNode) -> None:
    """CMB-21, COM-13: nobody had answered, so it is canceled."""
    await node.tell_network("POST", "/numbers", {"number": "+15550177010", "persona": "no-answer"})
    _, placed = await node.ask("POST", "/v1/operator/calls", {"to": "+15550177010"})
    status, _ = await node.ask("DELETE", f"/v1/operator/calls/{placed['call']['id']}")
    assert status == 202
    told = await node.wait_over(placed["call"]["id"])
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("canceled", "api"), told


async def test_a_webhook_sent_twice_late_or_out_of_order_changes_nothing(node: LiveNode) -> None:
    """COM-46, CMB-19: the same call as without the faults."""
    faults = [{"kind": "webhook_duplicate"}, {"kind": "webhook_reorder"}]
    await node.tell_network("POST", "/faults", {"faults": faults})
    try:
        await node.tell_network("POST", "/numbers", {"number": "+15550177011", "persona": "impatient"})
        _, placed = await node.ask("POST", "/v1/operator/calls", {"to": "+15550177011"})
        told = await node.wait_over(placed["call"]["id"])
    finally:
        await node.tell_network("DELETE", "/faults")
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "caller_hung_up"), told
    assert kinds(told).count("claimed") == 1


async def test_a_dial_whose_reply_is_lost_is_still_one_call_and_ends_as_it_really_ended(node: LiveNode) -> None:
    """COM-13, COM-79: nobody is dialled twice, and the webhooks bind the call to the carrier's."""
    await node.tell_network("POST", "/faults", {"kind": "rest_lost_reply", "times": 1})
    try:
        await node.tell_network("POST", "/numbers", {"number": "+15550177012", "persona": "impatient"})
        status, placed = await node.ask("POST", "/v1/operator/calls", {"to": "+15550177012"})
        assert status == 201, placed
        told = await node.wait_over(placed["call"]["id"])
    finally:
        await node.tell_network("DELETE", "/faults")
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "caller_hung_up"), told
    calls = (await node.tell_network("GET", "/calls"))["calls"]
    assert sum(call["to"] == "+15550177012" for call in calls) == 1


async def test_a_stream_that_drops_is_taken_up_again_at_the_next_epoch(node: LiveNode) -> None:
    """COM-15: the line, not the process, died; the call goes on where it stood."""
    sid = await node.dial("talker")
    call_id = await node.by_sid(sid)
    before = await spoken_to(node, call_id)
    await node.tell_network("POST", "/faults", {"kind": "stream_drop", "mode": "rst", "call": sid})
    told = await node.wait_call(call_id, lambda told: told["call"]["epoch"] == 2)
    assert [turn["text"] for turn in told["turns"][: len(before["turns"])]] == [t["text"] for t in before["turns"]]
    await node.ask("DELETE", f"/v1/operator/calls/{call_id}")
    told = await node.wait_over(call_id)
    assert (told["call"]["state"], told["call"]["ended_reason"]) == ("completed", "api"), told


async def test_the_tree_shows_the_call_as_an_actor_with_its_processors(node: LiveNode) -> None:
    """COM-72: every stage of the pipeline is visible while the call lives."""
    sid = await node.dial("talker")
    call_id = await node.by_sid(sid)
    await spoken_to(node, call_id)
    code, told = await node.ops("tree")
    assert code == 0, told
    [actor] = [s for n in told["nodes"].values() for s in n["statuses"] if s["name"] == f"call/{call_id}"]
    assert {"dialogue", "speaker", "heard"} <= set(actor["snapshot"]["processors"]), actor
    await node.ask("DELETE", f"/v1/operator/calls/{call_id}")
    await node.wait_over(call_id)
