"""The contract of the ports Transport, Registry and Placement: each test runs on every implementation.

What a system sees of actors in another process is the same whether that process is a task beside it or a forked child.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from actors.runtime import (
    ActorFailed,
    ActorGone,
    ActorSpec,
    AskTimeout,
    BadReply,
    Done,
    Halt,
    Inspect,
    LocalPlacement,
    MailboxFull,
    NameTaken,
    Placement,
    ProcessSpec,
    Ref,
    Refused,
    System,
    Tree,
)
from actors.runtime.forked import ForkedPlacement
from tests.doubles.processes import (
    Crash,
    Decline,
    Heard,
    Nap,
    Observe,
    Parrot,
    Quit,
    Recall,
    Relay,
    Say,
    Urgent,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
DOUBLES = "tests.doubles.processes"


class Node:
    """A system with a placement, and short ways to start parrots in processes of it."""

    def __init__(self, system: System, placement: Placement) -> None:
        self.system = system
        self.placement = placement
        self._serial = itertools.count(1)

    def name(self, kind: str) -> str:
        return f"{kind}-{next(self._serial)}"

    async def parrots(self, *names: str, mailbox: int = 256) -> str:
        """A process that runs these parrots; returns its name."""
        process = self.name("process")
        args = {"names": list(names), "mailbox": mailbox}
        await self.start("parrots", process, args=args)
        return process

    async def parrot(self, mailbox: int = 256) -> Ref:
        """One parrot in a process of its own."""
        name = self.name("parrot")
        await self.parrots(name, mailbox=mailbox)
        return self.system.ref(name)

    async def start(self, entry: str, name: str, **fields: Any) -> Ref:
        fields = {"restart": "temporary", "ready": True, "grace_s": 2.0, **fields}
        return await self.system.spawn(ProcessSpec(name, f"{DOUBLES}:{entry}", **fields))

    async def heard(self, ref: Ref) -> tuple[str, ...]:
        return (await ref.ask(Recall(), timeout=2.0, expect=Heard)).texts

    async def heard_at_least(self, ref: Ref, count: int) -> tuple[str, ...]:
        async with asyncio.timeout(10):
            while True:
                texts = await self.heard(ref)
                if len(texts) >= count:
                    return texts
                await asyncio.sleep(0.005)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["local", "forked"])
async def node(request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    async with System(f"node-{request.param}") as system:
        placement: Placement
        if request.param == "local":

            def join(name: str) -> System:
                return System(name, switchboard=system.switchboard)

            placement = await LocalPlacement(system, join).open()
        else:
            placement = await ForkedPlacement(system, preload=(DOUBLES,)).open()
        yield Node(system, placement)


# Transport


async def test_an_ask_reaches_an_actor_in_another_process_by_name(node: Node) -> None:
    parrot = await node.parrot()
    assert await parrot.ask(Say("hello"), timeout=2.0, expect=Say) == Say("hello")


async def test_messages_of_one_sender_arrive_in_order(node: Node) -> None:
    parrot = await node.parrot()
    for number in range(50):
        await parrot.tell(Say(str(number)))
    assert await node.heard_at_least(parrot, 50) == tuple(str(number) for number in range(50))


async def test_messages_sent_without_waiting_arrive_in_the_order_of_the_calls(node: Node) -> None:
    parrot = await node.parrot()
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(parrot.tell(Say(str(number))))
    assert await node.heard_at_least(parrot, 50) == tuple(str(number) for number in range(50))


async def test_a_control_message_overtakes_ordinary_ones(node: Node) -> None:
    parrot = await node.parrot()
    await parrot.tell(Nap(0.2))
    await parrot.tell(Say("ordinary"))
    await parrot.tell(Urgent("urgent"))
    assert await node.heard_at_least(parrot, 2) == ("urgent", "ordinary")


async def test_a_full_mailbox_is_an_error_to_the_sender_and_leaves_the_control_lane_open(node: Node) -> None:
    parrot = await node.parrot(mailbox=2)
    nap = asyncio.create_task(parrot.ask(Nap(0.5), timeout=5.0))
    await asyncio.sleep(0.1)
    await parrot.tell(Say("1"))
    await parrot.tell(Say("2"))
    with pytest.raises(MailboxFull):
        await parrot.tell(Say("3"))
    with pytest.raises(MailboxFull):
        await parrot.ask(Say("4"), timeout=1.0)
    await parrot.tell(Urgent("still"))
    await nap
    assert await node.heard_at_least(parrot, 3) == ("still", "1", "2")


async def test_an_unknown_name_is_gone_at_once(node: Node) -> None:
    nobody = node.system.ref("nobody/at-all")
    with pytest.raises(ActorGone, match="nobody/at-all"):
        await nobody.ask(Say(), timeout=60.0)
    with pytest.raises(ActorGone):
        await nobody.tell(Say())


async def test_an_unknown_name_is_gone_at_once_for_a_child_too(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(ActorFailed, match="ActorGone"):
        await parrot.ask(Relay("nobody/at-all"), timeout=60.0)


async def test_an_ask_that_is_not_answered_in_time_times_out_and_the_actor_lives(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(AskTimeout):
        await parrot.ask(Nap(0.3), timeout=0.05)
    assert await parrot.ask(Say("here"), timeout=2.0) == Say("here")


async def test_an_ask_whose_deadline_passed_while_it_waited_is_not_handled(node: Node) -> None:
    parrot = await node.parrot()
    await parrot.tell(Nap(0.3))
    with pytest.raises(AskTimeout):
        await parrot.ask(Say("too late"), timeout=0.05)
    await parrot.ask(Nap(0.0), timeout=2.0)
    assert await node.heard(parrot) == ()


async def test_the_asker_of_a_crashing_handler_is_told_so(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(ActorFailed, match="ValueError: on purpose"):
        await parrot.ask(Crash("on purpose"), timeout=2.0)
    with pytest.raises(ActorGone):
        await parrot.ask(Say(), timeout=2.0)


async def test_whoever_is_queued_behind_a_crash_is_told_that_the_actor_is_gone(node: Node) -> None:
    parrot = await node.parrot()
    await parrot.tell(Nap(0.1))
    crash = asyncio.create_task(parrot.ask(Crash(), timeout=5.0))
    await asyncio.sleep(0)
    behind = asyncio.create_task(parrot.ask(Say(), timeout=5.0))
    with pytest.raises(ActorFailed):
        await crash
    with pytest.raises(ActorGone):
        await behind


async def test_a_refusal_answers_the_asker_and_the_actor_lives_on(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(Refused, match="not today"):
        await parrot.ask(Decline(), timeout=2.0)
    await parrot.tell(Decline())
    assert await parrot.ask(Say("alive"), timeout=2.0) == Say("alive")


async def test_an_answer_of_another_type_than_expected_is_a_bad_reply(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(BadReply):
        await parrot.ask(Say(), timeout=2.0, expect=Heard)


async def test_actors_of_two_processes_reach_each_other(node: Node) -> None:
    one, other = await node.parrot(), await node.parrot()
    assert await one.ask(Relay(other.address, "across"), timeout=2.0) == Say("across")
    assert await other.ask(Relay(one.address, "back"), timeout=2.0) == Say("back")


async def test_an_actor_of_a_process_reaches_one_of_the_supervisor(node: Node) -> None:
    home = await node.system.spawn(ActorSpec(Parrot, node.name("home")))
    away = await node.parrot()
    assert await away.ask(Relay(home.address, "home"), timeout=2.0) == Say("home")
    await node.system.stop_actor(home.address)


# Watch


async def test_a_watcher_in_another_process_gets_one_down_when_the_actor_ends(node: Node) -> None:
    watcher, watched = await node.parrot(), await node.parrot()
    await watcher.ask(Observe(watched.address), timeout=2.0)
    await watcher.ask(Observe(watched.address), timeout=2.0)
    await watched.tell(Quit())
    texts = await node.heard_at_least(watcher, 1)
    assert texts == (f"{watched.address} down: asked to quit",)
    await watcher.ask(Nap(0.05), timeout=2.0)
    assert await node.heard(watcher) == texts


async def test_a_watcher_gets_one_down_for_each_actor_of_a_process_that_ends(node: Node) -> None:
    names = [node.name("watched") for _ in range(5)]
    process = await node.parrots(*names)
    watcher = await node.system.spawn(ActorSpec(Parrot, node.name("watcher")))
    for name in [*names, process]:
        await watcher.ask(Observe(name), timeout=2.0)
    await node.placement.stop(process)
    texts = await node.heard_at_least(watcher, 6)
    assert sorted(text.split(" down")[0] for text in texts) == sorted([*names, process])
    await node.system.stop_actor(watcher.address)


async def test_a_child_gets_a_down_for_an_actor_of_the_supervisor(node: Node) -> None:
    home = await node.system.spawn(ActorSpec(Parrot, node.name("home")))
    away = await node.parrot()
    await away.ask(Observe(home.address), timeout=2.0)
    with pytest.raises(ActorFailed):
        await home.ask(Crash("hard"), timeout=2.0)
    assert await node.heard_at_least(away, 1) == (f"{home.address} down: ValueError: hard",)


async def test_watching_what_is_not_there_gives_a_down_that_says_gone(node: Node) -> None:
    watcher = await node.parrot()
    await watcher.ask(Observe("nobody/here"), timeout=2.0)
    assert await node.heard_at_least(watcher, 1) == ("nobody/here down: gone",)


async def test_code_that_is_no_actor_can_wait_for_an_end(node: Node) -> None:
    parrot = await node.parrot()
    waiting = asyncio.create_task(node.system.wait_down(parrot.address))
    await asyncio.sleep(0)
    await parrot.ask(Nap(0.0), timeout=2.0)
    await parrot.tell(Quit())
    async with asyncio.timeout(5):
        assert await waiting == "asked to quit"


# Registry


async def test_a_name_is_unique_on_the_node(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(NameTaken):
        await node.system.spawn(ActorSpec(Parrot, parrot.address))
    assert parrot.address in await node.system.registry.names("parrot-")


async def test_a_process_cannot_take_a_name_that_lives_elsewhere(node: Node) -> None:
    parrot = await node.parrot()
    with pytest.raises(ActorFailed):
        await node.parrots(parrot.address)
    assert await parrot.ask(Say("mine"), timeout=2.0) == Say("mine")


async def test_a_name_is_free_once_its_actor_has_gone(node: Node) -> None:
    parrot = await node.parrot()
    gone = asyncio.create_task(node.system.wait_down(parrot.address))
    await asyncio.sleep(0)
    await parrot.ask(Nap(0.0), timeout=2.0)
    await parrot.tell(Quit())
    await gone
    assert parrot.address not in await node.system.registry.names()
    again = await node.system.spawn(ActorSpec(Parrot, parrot.address))
    assert await again.ask(Say("new"), timeout=2.0) == Say("new")
    await node.system.stop_actor(again.address)


# Placement


async def test_a_process_that_is_stopped_takes_its_names_with_it(node: Node) -> None:
    name = node.name("parrot")
    process = await node.parrots(name)
    await node.placement.stop(process)
    with pytest.raises(ActorGone):
        await node.system.ref(name).ask(Say(), timeout=5.0)
    with pytest.raises(ActorGone):
        await node.system.ref(process).ask(Say(), timeout=5.0)
    assert process not in [status.name for status in node.placement.status()]


async def test_a_process_whose_entry_returns_has_ended_normally(node: Node) -> None:
    name = node.name("brief")
    await node.start("brief", name, restart="transient")
    async with asyncio.timeout(5):
        await node.system.wait_down(name)
    assert name not in [status.name for status in node.placement.status()]


async def test_a_process_whose_entry_fails_does_not_start(node: Node) -> None:
    with pytest.raises(ActorFailed):
        await node.start("broken", node.name("broken"))


async def test_a_process_name_is_unique(node: Node) -> None:
    process = await node.parrots()
    with pytest.raises(NameTaken):
        await node.start("parrots", process)


async def test_a_process_gets_copies_of_descriptors(node: Node) -> None:
    read_fd, write_fd = os.pipe()
    try:
        await node.start("parrots", node.name("process"), fds={"pipe": write_fd})
        assert os.read(read_fd, 10) == b"here"
        os.fstat(write_fd)
    finally:
        os.close(read_fd)
        os.close(write_fd)


async def test_status_shows_what_a_process_reports(node: Node) -> None:
    process = await node.start("parrots", node.name("process"), args={"names": [node.name("p")]}, ping_s=0.05)
    async with asyncio.timeout(5):
        while True:
            status = {status.name: status for status in node.placement.status()}[process.address]
            if status.report == {"parrots": 1}:
                break
            await asyncio.sleep(0.01)
    assert status.state == "running"
    assert status.pid > 0


async def test_one_question_shows_every_actor_of_the_node(node: Node) -> None:
    name = node.name("shown")
    process = await node.parrots(name)
    top = node.system.ref(f"system/{node.system.name}")
    tree = await top.ask(Inspect(everywhere=True), timeout=5.0, expect=Tree)
    found = {status.name: status for status in tree.statuses}
    assert found[name].system == process
    assert found[name].kind == "Parrot"
    assert found[process].parent == "processes"
    assert {status.name for status in tree.systems} >= {node.system.name, process}


async def test_an_operator_can_halt_an_actor_of_any_process(node: Node) -> None:
    name = node.name("halted")
    process = await node.parrots(name)
    inspector = node.system.ref(f"system/{process}")
    assert await inspector.ask(Halt(name), timeout=5.0) == Done()
    with pytest.raises(ActorGone):
        await node.system.ref(name).ask(Say(), timeout=5.0)
    with pytest.raises(Refused):
        await inspector.ask(Halt(name), timeout=5.0)
