"""Two nodes share a database and a public address: what one loses or gives up, the other says on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.doubles.talker import said, talking, went_on_to_its_end
from tests.doubles.two_nodes import Nodes, nodes

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
CALLS = 6


def holders(told: dict[str, Any]) -> list[str]:
    """The nodes that held the call, one after another."""
    return [event["data"]["node"] for event in told["events"] if event["kind"] == "claimed"]


async def moved(pair: Nodes, call_id: str, node: str, epoch: int) -> None:
    """Wait until this node holds the call at this epoch."""

    def there(told: dict[str, Any]) -> bool:
        call = told["call"]
        return bool(call["epoch"] == epoch and call["node"] == node)

    await pair.line.wait_call(call_id, there, 30.0)


async def test_a_call_of_a_node_that_is_killed_goes_on_at_the_other_to_its_scripted_end() -> None:
    """COM-02, COM-15, COM-16: nothing of the dead node is left, and the database that both hold runs on."""
    async with nodes("a", "b") as pair:
        sid, call_id = await talking(pair.line)
        await pair.start("b")
        database = pair.database_pid()
        await pair.kill("a")
        await moved(pair, call_id, "b", 2)
        told = await went_on_to_its_end(pair.line, call_id)
        assert holders(told) == ["a", "b"]
        assert pair.database_pid() == database
        drops = (await pair.line.wait_finished(sid))["drops"]
        assert [drop["resumed"] for drop in drops] == [True, False], "the last is our goodbye"


async def test_a_rolling_restart_of_both_nodes_moves_every_call_and_drops_none() -> None:
    """COM-16: each call is let go twice and taken up twice, and its caller hears of nothing but pauses."""
    async with nodes("a", "b") as pair:
        line = pair.line
        calls = await asyncio.gather(*(talking(line, 1) for _ in range(CALLS)))
        await pair.start("b")
        code, told = await line.ops("--node", "a", "drain", "--yes")
        assert code == 0, told
        newcomer = await line.by_sid(await line.dial("talker"))  # on a connection to the draining node, maybe
        await asyncio.gather(*(moved(pair, call_id, "b", 2) for _, call_id in calls))
        await pair.end("a")
        await pair.start("a")
        await pair.end("b")  # a signal drains, too
        await asyncio.gather(*(moved(pair, call_id, "a", 3) for _, call_id in calls))
        ends = [await went_on_to_its_end(line, call_id) for _, call_id in calls]
        for (sid, _), told in zip(calls, ends, strict=True):
            assert holders(told) == ["a", "b", "a"]
            released = [event["data"] for event in told["events"] if event["kind"] == "released"]
            assert released == [{"moved": True}, {"moved": True}], "none was dropped"
            network = await line.wait_finished(sid)
            assert not network["error"], network
        assert holders(await went_on_to_its_end(line, newcomer)) == ["b", "a"]


async def test_a_node_that_is_killed_and_started_again_takes_its_call_back() -> None:
    """COM-02, COM-15: also the only one of its kind, while the proxy before it keeps the carrier waiting."""
    async with nodes("a") as alone:
        _, call_id = await talking(alone.line)
        before = said(await alone.line.read(call_id))
        await alone.kill("a")
        await alone.start("a")
        await moved(alone, call_id, "a", 2)
        told = await went_on_to_its_end(alone.line, call_id)
        assert said(told)[: len(before)] == before
        assert holders(told) == ["a", "a"]
