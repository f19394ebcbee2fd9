"""`main.py ops` against a node that runs: what it shows, what it ends, and what it does not do unasked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.doubles.live_node import LiveNode, live_node, program

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[LiveNode]:
    async with live_node() as started:
        yield started


async def test_a_live_call_is_listed_shown_and_hung_up(node: LiveNode) -> None:
    """COM-77, CMB-21: calls, hosts, then hangup; the reason names the operator."""
    sid = await node.dial("talker")
    call_id = await node.by_sid(sid)
    await node.wait_call(call_id, lambda told: told["call"]["state"] == "in_progress")
    code, told = await node.ops("calls")
    assert code == 0
    [call] = told["nodes"]["n1"]["calls"]
    assert (call["id"], call["state"], call["epoch"]) == (call_id, "in_progress", 1)
    [host] = [host for host in await node.hosts() if call_id in host["calls"]]
    assert host["host"] == call["host"]
    assert host["pid"] > 0
    code, told = await node.ops("hangup", call_id, "--yes")
    assert code == 0, told
    over = await node.wait_over(call_id)
    assert (over["call"]["state"], over["call"]["ended_reason"]) == ("completed", "operator")
    code, told = await node.ops("calls", "--all")
    assert [call["id"] for call in told["nodes"]["n1"]["calls"]] == [call_id]


async def test_what_destroys_is_not_done_unasked(node: LiveNode) -> None:
    """COM-77: without a terminal it needs --yes, and a dry run does nothing."""
    for words in (("hangup", "call_" + "0" * 32), ("drain",)):
        code, said = await node.ops(*words)
        assert code == 1
        assert "--yes" in said
        code, said = await node.ops(*words, "--dry-run")
        assert code == 0
        assert "would" in said
    assert not any(host["draining"] for host in await node.hosts())


async def test_an_unknown_call_is_refused_by_name(node: LiveNode) -> None:
    """COM-77: exit 1, and the desk lives on."""
    code, told = await node.ops("hangup", "call_" + "0" * 32, "--yes")
    assert code == 1
    assert told["silent"] == ["n1"]
    assert (await node.ops("calls"))[0] == 0


async def test_a_node_that_is_gone_is_reported_not_waited_for(node: LiveNode) -> None:
    """COM-77: its socket lies there still."""
    import socket
    from pathlib import Path

    folder = Path(node.env["NODE_VAR"]) / "run" / "n0"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "ops.sock"))
    code, told = await node.ops("hosts")
    assert code == 0, "the living nodes have answered"
    assert told["silent"] == ["n0"]
    assert told["nodes"]["n1"]["hosts"]
    (folder / "ops.sock").unlink()


async def test_the_tables_are_for_people(node: LiveNode) -> None:
    """COM-77: the same without --json."""
    for act, word in (("tree", "reconciler"), ("hosts", "host-1"), ("calls", "node n1")):
        run = await program("main.py", "ops", act, env=node.env)
        assert await run.process.wait() == 0
        await run.wait_said(word)
