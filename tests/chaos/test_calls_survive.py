"""Calls outlive whatever dies under them: hosts, gateway, template, turn server, database. Each is killed for real."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.doubles.live_node import LiveNode, live_node, wait_for
from tests.doubles.talker import talking, went_on_to_its_end

pytestmark = [pytest.mark.heavy, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[LiveNode]:
    async with live_node(CALLS_PERSONA="talker", CALLS_PER_HOST="2") as started:
        yield started


async def process(node: LiveNode, name: str) -> psutil.Process:
    """The node's process that bears this name."""

    async def look() -> psutil.Process | None:
        code, told = await node.ops("tree")
        statuses = [s for n in told["nodes"].values() for s in n["statuses"]] if code == 0 else []
        pids = [s["snapshot"].get("pid") for s in statuses if s["name"] == name]
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pids[0]) if pids and pids[0] else None
        return None

    return await wait_for(look)


async def kill(node: LiveNode, name: str) -> None:
    """Kill a process and wait until the node has another."""
    victim = await process(node, name)
    victim.kill()

    async def replaced() -> bool:
        return bool((await process(node, name)).pid != victim.pid)

    await wait_for(replaced)


async def test_calls_go_on_to_their_scripted_end_when_their_host_is_killed(node: LiveNode) -> None:
    """COM-15, COM-02, CMB-31: epoch 2, no line lost and none said twice; how long it takes `bench survive` measures."""
    calls = [await talking(node, lines) for lines in (1, 2, 3)]
    first = (await node.read(calls[0][1]))["call"]["host"]
    hosts = {host["host"]: host["pid"] for host in await node.hosts()}
    os.kill(hosts[first], signal.SIGKILL)
    ends = [await went_on_to_its_end(node, call_id) for _, call_id in calls]
    for (sid, _), told in zip(calls, ends, strict=True):
        struck = any(e["kind"] == "claimed" and e["epoch"] == 1 and e["data"]["host"] == first for e in told["events"])
        assert told["call"]["epoch"] == (2 if struck else 1), told["events"]
        drops = (await node.wait_finished(sid))["drops"]
        assert [drop["resumed"] for drop in drops] == ([True, False] if struck else [False]), "the last is our goodbye"
    assert ends[0]["call"]["epoch"] == 2


async def test_a_drained_host_lets_its_calls_go_and_they_are_said_on_elsewhere(node: LiveNode) -> None:
    """COM-16: the call moves at a quiet moment; no new one comes to the drained host."""
    _, call_id = await talking(node)
    host = (await node.read(call_id))["call"]["host"]
    code, told = await node.ops("drain", host, "--yes")
    assert code == 0, told
    end = await went_on_to_its_end(node, call_id)
    assert end["call"]["epoch"] == 2
    assert end["call"]["host"] != host
    released = [event["data"] for event in end["events"] if event["kind"] == "released"]
    assert released == [{"moved": True}]


async def test_the_deaths_of_gateway_template_and_turn_server_end_no_call(node: LiveNode) -> None:
    """COM-02: none of them holds a call; each is replaced, and the call stays at epoch 1."""
    _, call_id = await talking(node)
    for name in ("gateway", "template", "turns"):
        await kill(node, name)
    end = await went_on_to_its_end(node, call_id)
    assert end["call"]["epoch"] == 1
    another = await node.by_sid(await node.dial("impatient"))
    told = await node.wait_over(another)
    assert told["call"]["ended_reason"] == "caller_hung_up", "new calls come in after it all"


def signal_database(node: LiveNode, number: signal.Signals) -> None:
    """Send a signal to the node's PostgreSQL, postmaster and backends."""
    file = Path(node.env["NODE_VAR"]) / "postgres" / "data" / "postmaster.pid"
    postmaster = psutil.Process(int(file.read_text().splitlines()[0]))
    for one in (*postmaster.children(recursive=True), postmaster):
        with contextlib.suppress(psutil.Error):
            one.send_signal(number)


def ready(node: LiveNode) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await node.ask("GET", "/readyz"))[0] == 200

    return look


def unready(node: LiveNode) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return (await node.ask("GET", "/readyz"))[0] == 503

    return look


async def test_a_database_that_hangs_and_is_killed_again_and_again_loses_no_live_call_and_no_turn(
    node: LiveNode,
) -> None:
    """COM-02, COM-57: the conversation goes on without it, readiness tells within 5 s, and the journal catches up."""
    _, call_id = await talking(node)
    signal_database(node, signal.SIGSTOP)
    try:
        await wait_for(unready(node), 5.0)
    finally:
        signal_database(node, signal.SIGCONT)
    await wait_for(ready(node), 30.0)
    for _ in range(3):
        signal_database(node, signal.SIGKILL)
        await wait_for(ready(node), 30.0)
    end = await went_on_to_its_end(node, call_id)
    assert end["call"]["epoch"] == 1


async def test_nothing_of_a_node_outlives_its_supervisor() -> None:
    """COM-02: hosts, gateway, template, turn server and database go with it, and a new node takes calls."""
    async with live_node(CALLS_PERSONA="talker") as node:
        sid, _ = await talking(node, 1)
        family = psutil.Process(node.node.process.pid).children(recursive=True)
        assert len(family) >= 4
        node.node.process.kill()
        await node.node.process.wait()
        finished = await node.wait_finished(sid)
        assert finished["status"] == "completed" or finished["error"], finished

        async def gone() -> bool:
            return not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

        assert await wait_for(gone, 15.0), [one.cmdline() for one in family if one.is_running()]
