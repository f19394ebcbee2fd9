"""Media tickets on the wire: a whole node, and a carrier that a test plays by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.doubles.hand_phone import begin, heard, media, ring
from tests.doubles.live_node import LiveNode, live_node

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[LiveNode]:
    async with live_node(CALLS_PERSONA="talker") as started:
        yield started


async def refusal(node: LiveNode, url: str, sid: str) -> int:
    """How a stream to this address is refused: its upgrade by a status, or its start by a close code."""
    try:
        async with media(node, url) as line:
            await begin(line, sid, url.rpartition("/")[2])
            closed = await line.receive(timeout=10)
    except aiohttp.WSServerHandshakeError as error:
        return error.status
    assert closed.type is aiohttp.WSMsgType.CLOSE, closed
    return int(closed.data)


async def test_a_media_ticket_works_once_and_its_replay_leaves_the_live_call_alone(node: LiveNode) -> None:
    """CMB-18, COM-46: who has seen a ticket on its way neither hears the call nor ends it."""
    sid = "CA" + "5" * 32
    url = await ring(node, sid)
    call_id = await node.by_sid(sid)
    async with media(node, url) as line:
        await begin(line, sid, url.rpartition("/")[2])
        await heard(line, 10)
        for _ in range(2):
            assert await refusal(node, url, sid) == 503
        await heard(line, 50)
        call = (await node.read(call_id))["call"]
        assert (call["state"], call["epoch"], call["ended_at"]) == ("in_progress", 1, None)
    assert await refusal(node, url, sid) in {503, aiohttp.WSCloseCode.POLICY_VIOLATION}, "nor when its stream is over"
    told = await node.read(call_id)
    assert [event["kind"] for event in told["events"]].count("claimed") == 1


async def test_a_ticket_that_a_newer_one_has_replaced_lets_nobody_in(node: LiveNode) -> None:
    """CMB-18, COM-46: a repeated webhook makes a new ticket, and only that one is good."""
    sid = "CA" + "6" * 32
    old, new = await ring(node, sid), await ring(node, sid)
    call_id = await node.by_sid(sid)
    stale = await refusal(node, old, sid)
    assert stale == aiohttp.WSCloseCode.POLICY_VIOLATION, "the database knows, not the gateway"
    async with media(node, new) as line:
        await begin(line, sid, new.rpartition("/")[2])
        await heard(line, 10)
    assert (await node.read(call_id))["call"]["epoch"] == 1


async def test_a_ticket_that_is_not_ours_is_forbidden(node: LiveNode) -> None:
    """CMB-18: signed by the carrier or not."""
    sid = "CA" + "7" * 32
    url = await ring(node, sid)
    assert await refusal(node, url[:-4] + ("AAAA" if url[-4:] != "AAAA" else "BBBB"), sid) == 403
