"""Forked and exec'd processes: start, template, death, restart, stall, memory, pool, entrance."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.runtime import (
    ActorFailed,
    ActorGone,
    ActorSpec,
    AskTimeout,
    Inspect,
    Message,
    ProcessSpec,
    ProcessStatus,
    Refused,
    System,
    Tree,
    UnknownMessage,
    Unreachable,
)
from actors.runtime.forked import ForkedPlacement, Pool, connect
from tests.doubles.processes import Block, Crash, Eat, Heard, Nap, Observe, Parrot, ProcessFacts, Recall, Say, Who

DOUBLES = "tests.doubles.processes"


class Node:
    """A system that forks, with short ways to look at its processes."""

    def __init__(self, system: System, placement: ForkedPlacement) -> None:
        self.system = system
        self.placement = placement

    async def start(self, name: str = "host", entry: str = "parrots", **fields: Any) -> None:
        fields = {"args": {"names": [f"{name}/parrot"]}, "ready": True, "grace_s": 1.0, **fields}
        await self.system.spawn(ProcessSpec(name, f"{DOUBLES}:{entry}", **fields))

    def status(self, name: str = "host") -> ProcessStatus:
        return {status.name: status for status in self.placement.status()}[name]

    def template_pid(self) -> int:
        found = {status.name: status for status in self.system.tree()}["template"]
        return int(found.snapshot.get("pid", 0))

    async def facts(self, name: str = "host") -> ProcessFacts:
        return await self.system.ref(f"{name}/parrot").ask(Who(), timeout=5.0, expect=ProcessFacts)

    async def back(self, name: str = "host") -> ProcessFacts:
        """Wait until the process's parrot answers again."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ActorGone, AskTimeout):
                    return await self.facts(name)
                await asyncio.sleep(0.01)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    others = children()  # a browser that other tests share, for instance
    async with System("node") as system:
        placement = await ForkedPlacement(
            system, preload=(DOUBLES, "colorsys"), prepare=f"{DOUBLES}:prepare", told={"word": "hello"}
        ).open()
        yield Node(system, placement)
    assert children() <= others


def children() -> set[int]:
    """Every child process of this one, zombies included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(word) for word in (task / "children").read_text().split()}
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


# Start


async def test_a_forked_child_has_what_the_template_preloaded_and_one_loop_thread(node: Node) -> None:
    await node.start()
    facts = await node.facts()
    assert facts.modules == ("colorsys",)
    assert facts.variable == os.environ.get("OMP_NUM_THREADS", "1")
    assert facts.told == "hello"
    assert facts.parent == node.template_pid()
    assert facts.threads == 2  # the loop and its watchdog


async def test_an_execed_child_is_our_own_and_starts_without_the_template(node: Node) -> None:
    await node.start(start="exec")
    facts = await node.facts()
    assert facts.parent == os.getpid()


async def test_the_template_has_one_thread_and_no_socket_but_its_command_socket(node: Node) -> None:
    await node.start()
    folder = Path(f"/proc/{node.template_pid()}")
    assert len(list((folder / "task").iterdir())) == 1
    targets = [str(link.readlink()) for link in (folder / "fd").iterdir()]
    assert sum(target.startswith("socket:") for target in targets) == 1
    assert not any("eventpoll" in target for target in targets)


async def test_a_child_holds_no_descriptor_of_the_template_or_of_its_siblings(node: Node) -> None:
    await node.start("one")
    await node.start("two")
    held = {
        name: {
            str(link.readlink())
            for link in Path(f"/proc/{node.status(name).pid}/fd").iterdir()
            if str(link.readlink()).startswith(("socket:", "pipe:")) and link.name not in ("0", "1", "2")
        }
        for name in ("one", "two")
    }
    template = {
        str(link.readlink()) for link in Path(f"/proc/{node.template_pid()}/fd").iterdir() if int(link.name) > 2
    }
    assert held["one"] & held["two"] == set()
    assert held["one"] & template == set()


async def test_a_template_that_cannot_prepare_says_why() -> None:
    async with System("node") as system:
        with pytest.raises(ActorFailed, match="no_such_module"):
            await ForkedPlacement(system, preload=("no_such_module",)).open()


async def test_a_process_that_is_never_ready_is_given_up_and_killed(node: Node) -> None:
    before = children()
    with pytest.raises(ActorFailed, match="not up within"):
        await node.start(entry="stubborn_before_ready", start_s=0.5)
    assert node.template_pid() in before
    assert children() <= before


async def test_a_message_type_that_the_child_does_not_know_is_an_error_of_the_sender(node: Node) -> None:
    class Unheard(Message, tag="test.unheard_of"):
        """Known to this process only."""

    await node.start()
    with pytest.raises(UnknownMessage, match=r"test\.unheard_of"):
        await node.system.ref("host/parrot").ask(Unheard(), timeout=2.0)
    assert await node.system.ref("host/parrot").ask(Say("fine"), timeout=2.0) == Say("fine")


# Death


@pytest.mark.parametrize("start", ["fork", "exec"])
async def test_a_killed_process_returns_and_each_watcher_heard_once(node: Node, start: str) -> None:
    await node.start(start=start)
    await node.start("elsewhere")
    before = await node.facts()
    near = await node.system.spawn(ActorSpec(Parrot, "near"))
    far = node.system.ref("elsewhere/parrot")
    for watcher in (near, far):
        await watcher.ask(Observe("host"), timeout=2.0)
        await watcher.ask(Observe("host/parrot"), timeout=2.0)
    asking = asyncio.create_task(node.system.ref("host/parrot").ask(Nap(60), timeout=120))
    await asyncio.sleep(0.05)
    os.kill(before.pid, signal.SIGKILL)
    with pytest.raises(ActorGone):
        await asking
    after = await node.back()
    assert after.pid != before.pid
    for watcher in (near, far):
        heard = await watcher.ask(Recall(), timeout=2.0, expect=Heard)
        assert sorted(text.split(" down")[0] for text in heard.texts) == ["host", "host/parrot"]


async def test_the_reason_of_a_death_is_told(node: Node) -> None:
    await node.start(restart="temporary")
    waiting = asyncio.create_task(node.system.wait_down("host"))
    await asyncio.sleep(0)
    os.kill(node.status().pid, signal.SIGTERM)
    assert "exited with status 0" in await waiting
    await node.start(restart="temporary")
    waiting = asyncio.create_task(node.system.wait_down("host"))
    await asyncio.sleep(0)
    os.kill(node.status().pid, signal.SIGKILL)
    assert "killed by SIGKILL" in await waiting


async def test_the_death_of_the_template_loses_no_child_and_it_returns(node: Node) -> None:
    await node.start()
    child, template = (await node.facts()).pid, node.template_pid()
    os.kill(template, signal.SIGKILL)
    await until(lambda: node.template_pid() not in (0, template))
    facts = await node.facts()
    assert facts.pid == child
    assert facts.parent == os.getpid()
    await node.start("second")
    assert (await node.facts("second")).parent == node.template_pid()
    os.kill(child, signal.SIGKILL)
    assert (await node.back()).pid != child
    assert child not in children()


async def test_a_fork_asked_for_while_the_template_is_down_waits_for_its_return(node: Node) -> None:
    os.kill(node.template_pid(), signal.SIGKILL)
    await node.start()
    assert (await node.facts()).pid > 0


@pytest.mark.heavy
async def test_what_a_process_had_started_dies_with_it_and_leaves_no_zombie(node: Node) -> None:
    await node.start("litter", entry="litter", ping_s=0.05, restart="temporary")
    await until(lambda: "program" in node.status("litter").report)
    program = node.status("litter").report["program"]
    assert is_alive(program)
    os.kill(node.status("litter").pid, signal.SIGKILL)
    await until(lambda: not is_alive(program))
    await until(lambda: not Path(f"/proc/{program}").exists())


async def test_a_process_that_ignores_its_stop_is_killed_after_its_grace(node: Node) -> None:
    await node.start("mule", entry="stubborn", grace_s=0.3)
    pid = node.status("mule").pid
    await node.placement.stop("mule")
    assert not is_alive(pid)


# Stall and memory


@pytest.mark.parametrize("fault", ["stopped", "spinning"])
async def test_a_stuck_process_is_killed_and_replaced(
    capfd: pytest.CaptureFixture[str], node: Node, fault: str
) -> None:
    await node.start(ping_s=0.05, stall_s=0.5, start="exec")  # its stderr is the captured one
    before = await node.facts()
    waiting = asyncio.create_task(node.system.wait_down("host"))
    await asyncio.sleep(0)
    if fault == "stopped":
        os.kill(before.pid, signal.SIGSTOP)
    else:
        await node.system.ref("host/parrot").tell(Block(60))
    assert "stalled" in await waiting
    assert (await node.back()).pid != before.pid
    if fault == "spinning":
        assert "processes.py" in capfd.readouterr().err  # the stack of the loop's thread


@pytest.mark.heavy
async def test_a_short_block_is_borne(node: Node) -> None:
    await node.start(ping_s=0.05, stall_s=2.0)
    before = await node.facts()
    await node.system.ref("host/parrot").ask(Block(0.7), timeout=5.0)
    await until(lambda: node.status().lag_p99_ms > 300)
    assert (await node.facts()).pid == before.pid


@pytest.mark.heavy
async def test_our_own_stall_is_not_blamed_on_the_children(node: Node) -> None:
    await node.start(ping_s=0.02, stall_s=0.3)
    before = await node.facts()
    for _ in range(3):
        await asyncio.sleep(0.1)
        time.sleep(0.6)  # noqa: ASYNC251 - this is the fault
    await asyncio.sleep(0.3)
    assert (await node.facts()).pid == before.pid


@pytest.mark.heavy
async def test_a_process_over_its_memory_cap_is_killed_and_says_so(node: Node) -> None:
    await node.start(memory_mb=150, restart="temporary")
    waiting = asyncio.create_task(node.system.wait_down("host"))
    await asyncio.sleep(0)
    await node.system.ref("host/parrot").tell(Eat(200))
    async with asyncio.timeout(20):
        reason = await waiting
    assert "over its cap of 150 MB" in reason


# Pool


async def test_a_pool_gives_a_warm_process_at_once_and_refills(node: Node) -> None:
    pool = await Pool(node.system, ProcessSpec("warm", f"{DOUBLES}:parrots", ready=True), idle=2, most=3).open()
    await until(lambda: pool.status().idle == 2)
    first = await pool.claim()
    await until(lambda: pool.status().idle == 2)
    assert pool.status().claimed == 1
    second, third = await pool.claim(), await pool.claim()
    assert len({first, second, third}) == 3
    with pytest.raises(Refused, match="in use"):
        await pool.claim()


async def test_a_pool_replaces_what_dies_idle_or_claimed(node: Node) -> None:
    pool = await Pool(node.system, ProcessSpec("warm", f"{DOUBLES}:parrots", ready=True), idle=1, most=2).open()
    claimed = await pool.claim()
    await until(lambda: pool.status().idle == 1)
    for status in node.placement.status():
        os.kill(status.pid, signal.SIGKILL)
    await until(lambda: pool.status().claimed == 0 and pool.status().idle == 1)
    assert await pool.claim() != claimed


async def test_a_claim_from_an_empty_pool_waits_for_a_new_process(node: Node) -> None:
    pool = await Pool(node.system, ProcessSpec("cold", f"{DOUBLES}:parrots", ready=True), idle=0, most=2).open()
    assert (await pool.claim()).address == "cold-1"


# Entrance


async def test_another_program_reaches_every_actor_through_the_entrance(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    await node.start()
    await node.system.spawn(ActorSpec(Parrot, "home"))
    await node.system.listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with await connect(path) as remote:
        for name in ("home", "host/parrot"):
            assert await remote.ref(name).ask(Say(name), timeout=2.0) == Say(name)
        assert {"home", "host", "host/parrot"} <= set(await remote.names())
        tree = await remote.ref("system/node").ask(Inspect(everywhere=True), timeout=5.0, expect=Tree)
        assert {"home", "host/parrot"} <= {status.name for status in tree.statuses}
        with pytest.raises(ActorGone):
            await remote.ref("nobody").ask(Say(), timeout=60.0)
        with pytest.raises(AskTimeout):
            await remote.ref("home").ask(Nap(0.5), timeout=0.05)
        with pytest.raises(ActorFailed):
            await remote.ref("home").ask(Crash(), timeout=2.0)


async def test_an_entrance_where_nobody_listens_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        await connect(tmp_path / "nobody.sock", timeout=1.0)


async def test_a_system_that_ends_leaves_its_guests_unreachable_and_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    system = await System("brief").open()
    await system.spawn(ActorSpec(Parrot, "home"))
    await system.listen(path)
    async with await connect(path) as remote:
        assert await remote.ref("home").ask(Say("hi"), timeout=2.0) == Say("hi")
        await system.stop()
        with pytest.raises((Unreachable, ActorGone)):
            await remote.ref("home").ask(Say(), timeout=5.0)
    assert not path.exists()


async def test_a_dead_socket_file_does_not_hinder_a_new_entrance(tmp_path: Path) -> None:
    path = tmp_path / "node.sock"
    for name in ("first", "second"):
        system = await System(name).open()
        await system.listen(path)
        if name == "second":
            async with await connect(path) as remote:
                assert f"system/{name}" in await remote.names()
        await system.stop()
        if name == "first":
            with socket.socket(socket.AF_UNIX) as leftover:
                leftover.bind(str(path))
