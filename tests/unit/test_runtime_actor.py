"""One actor and its context: handlers, asks, timers, work, watches; messages, errors, clock and watchdog beside it."""

from __future__ import annotations

import asyncio
import gc
import pickle
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from actors.runtime import (
    Actor,
    ActorError,
    ActorFailed,
    ActorGone,
    ActorSpec,
    AskTimeout,
    Done,
    Down,
    ManualClock,
    Message,
    ProcessFailed,
    ProcessSpec,
    Refused,
    System,
    SystemClock,
    UnknownMessage,
)
from actors.runtime.errors import from_wire, to_wire
from actors.runtime.messages import BODY_BYTES_MAX, decode, encode
from actors.runtime.watchdog import LoopWatch
from tests.doubles.processes import Block, Crash, Heard, Nap, Observe, Parrot, Quit, Recall, Say


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def system(clock: ManualClock) -> AsyncIterator[System]:
    made = await System("test", clock=clock).open()
    yield made
    await clock.drive(made.stop())
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert [task for task in left if "actor" in task.get_name() or "supervision" in task.get_name()] == []


class Scripted(Actor):
    """Runs given functions; for tests of single promises."""

    def __init__(self, **hooks: Any) -> None:
        self.hooks = hooks

    async def start(self) -> None:
        if "start" in self.hooks:
            await self.hooks["start"](self)

    async def receive(self, message: Message) -> Message | None:
        answer: Message | None = await self.hooks["receive"](self, message) if "receive" in self.hooks else None
        return answer

    async def stop(self, reason: str) -> None:
        if "stop" in self.hooks:
            self.hooks["stop"](reason)


def scripted(name: str = "a", **hooks: Any) -> ActorSpec:
    return ActorSpec(Scripted, name, hooks)


# Handlers


async def test_one_handler_runs_at_a_time(system: System, clock: ManualClock) -> None:
    inside = most = 0

    async def receive(actor: Scripted, message: Message) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await actor.context.clock.sleep(1)
        inside -= 1

    ref = await system.spawn(scripted(receive=receive))
    for _ in range(5):
        await ref.tell(Say())
    await clock.advance(10)
    assert (inside, most) == (0, 1)


async def test_a_busy_actor_lets_others_have_the_loop() -> None:
    async with System("fair") as system:
        ref = await system.spawn(ActorSpec(Parrot, "busy", mailbox=10_000))
        for number in range(5000):
            await ref.tell(Say(str(number)))
        await asyncio.sleep(0)
        heard = await ref.ask(Recall(), timeout=5.0, expect=Heard)
        assert len(heard.texts) < 5000


async def test_stop_is_called_once_after_a_crash_with_its_reason(system: System, clock: ManualClock) -> None:
    reasons: list[str] = []

    async def receive(actor: Scripted, message: Message) -> None:
        raise KeyError("lost")

    ref = await system.spawn(scripted(receive=receive, stop=reasons.append))
    await ref.tell(Say())
    await clock.settle()
    assert reasons == ["KeyError: 'lost'"]


async def test_stop_is_not_called_when_start_failed(system: System) -> None:
    reasons: list[str] = []

    async def start(actor: Scripted) -> None:
        raise ValueError("no")

    with pytest.raises(ActorFailed, match="ValueError: no") as failure:
        await system.spawn(scripted(start=start, stop=reasons.append))
    assert isinstance(failure.value.__cause__, ValueError)
    assert reasons == []


async def test_a_cancelled_error_that_leaks_from_a_handler_is_a_crash(system: System, clock: ManualClock) -> None:
    async def receive(actor: Scripted, message: Message) -> None:
        raise asyncio.CancelledError

    ref = await system.spawn(scripted(receive=receive))
    with pytest.raises(ActorGone):
        await ref.ask(Say(), timeout=1.0)
    await clock.settle()
    assert not system.has("a")


async def test_an_actor_that_stops_itself_finishes_its_handler_and_takes_no_more(system: System) -> None:
    async def receive(actor: Scripted, message: Message) -> Message:
        actor.context.stop("enough")
        await asyncio.sleep(0)
        return message

    ref = await system.spawn(scripted(receive=receive))
    first = asyncio.create_task(ref.ask(Say("1"), timeout=1.0))
    second = asyncio.create_task(ref.ask(Say("2"), timeout=1.0))
    assert await first == Say("1")
    with pytest.raises(ActorGone):
        await second


async def test_a_deferred_answer_comes_when_it_is_given(system: System, clock: ManualClock) -> None:
    async def receive(actor: Scripted, message: Message) -> None:
        later = actor.context.defer()

        async def work() -> None:
            await actor.context.clock.sleep(3)
            later.answer(Say("later"))

        actor.context.run(work())

    ref = await system.spawn(scripted(receive=receive))
    assert await clock.drive(ref.ask(Say(), timeout=10.0)) == Say("later")


async def test_a_deferred_answer_that_never_comes_fails_with_its_actor(system: System, clock: ManualClock) -> None:
    async def receive(actor: Scripted, message: Message) -> None:
        if isinstance(message, Quit):
            actor.context.stop()
        else:
            actor.context.defer()

    ref = await system.spawn(scripted(receive=receive))
    asking = asyncio.create_task(ref.ask(Say(), timeout=1000.0))
    await clock.settle()
    await ref.tell(Quit())
    with pytest.raises(ActorGone):
        await asking


async def test_a_deferred_failure_reaches_the_asker(system: System) -> None:
    async def receive(actor: Scripted, message: Message) -> None:
        actor.context.defer().fail(Refused("on reflection"))

    ref = await system.spawn(scripted(receive=receive))
    with pytest.raises(Refused, match="on reflection"):
        await ref.ask(Say(), timeout=1.0)


async def test_an_ask_times_out_by_the_injected_clock(system: System, clock: ManualClock) -> None:
    async def receive(actor: Scripted, message: Message) -> None:
        await actor.context.clock.sleep(1000)

    ref = await system.spawn(scripted(receive=receive))
    before = clock.monotonic()
    with pytest.raises(AskTimeout):
        await clock.drive(ref.ask(Say(), timeout=7.0))
    assert clock.monotonic() - before == pytest.approx(7.0)


async def test_a_cancelled_ask_is_withdrawn_from_the_queue(system: System, clock: ManualClock) -> None:
    ref = await system.spawn(ActorSpec(Parrot, "p"))
    await ref.tell(Nap(0.05))
    asking = asyncio.create_task(ref.ask(Say("withdrawn"), timeout=5.0))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0.1)
    assert await ref.ask(Recall(), timeout=5.0) == Heard(())


# Work beside the mailbox


async def test_the_failure_of_work_crashes_its_actor(system: System, clock: ManualClock) -> None:
    async def work() -> None:
        raise OSError("work failed")

    async def receive(actor: Scripted, message: Message) -> None:
        actor.context.run(work())
        await actor.context.clock.sleep(1000)

    ref = await system.spawn(scripted(receive=receive))
    with pytest.raises(ActorFailed, match="work failed"):
        await ref.ask(Say(), timeout=1.0)


async def test_work_ends_with_its_actor_after_its_stop_hook(system: System, clock: ManualClock) -> None:
    order: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("work cancelled")

    async def start(actor: Scripted) -> None:
        actor.context.run(work())

    await system.spawn(scripted(start=start, stop=lambda reason: order.append("stop")))
    await clock.settle()
    await system.stop_actor("a")
    assert order == ["stop", "work cancelled"]


async def test_a_thousand_actors_that_came_and_went_leave_nothing(system: System) -> None:
    for number in range(1000):
        ref = await system.spawn(ActorSpec(Parrot, f"p{number}"))
        await ref.tell(Quit())
    await asyncio.sleep(0.05)
    gc.collect()
    assert system.status().actors == 1
    assert sum(isinstance(found, Parrot) for found in gc.get_objects()) == 0


# Timers


async def test_a_timer_fires_once_and_a_repeating_one_again_and_again(system: System, clock: ManualClock) -> None:
    heard: list[str] = []

    async def start(actor: Scripted) -> None:
        actor.context.after(5, Say("once"))
        actor.context.every(2, Say("again"))

    async def receive(actor: Scripted, message: Message) -> None:
        assert isinstance(message, Say)
        heard.append(message.text)

    await system.spawn(scripted(start=start, receive=receive))
    await clock.advance(9)
    assert heard.count("once") == 1
    assert heard.count("again") == 4


async def test_ticks_of_a_slow_actor_do_not_pile_up(system: System, clock: ManualClock) -> None:
    heard = 0

    async def start(actor: Scripted) -> None:
        actor.context.every(1, Say())

    async def receive(actor: Scripted, message: Message) -> None:
        nonlocal heard
        heard += 1
        await actor.context.clock.sleep(10)

    await system.spawn(scripted(start=start, receive=receive))
    await clock.advance(30)
    assert heard == 3
    assert next(status.waiting for status in system.tree() if status.name == "a") == 1


async def test_timers_die_with_their_actor_and_can_be_cancelled(system: System, clock: ManualClock) -> None:
    heard: list[Message] = []

    async def start(actor: Scripted) -> None:
        actor.context.after(1, Say("cancelled")).cancel()
        actor.context.every(1, Say("tick"))

    async def receive(actor: Scripted, message: Message) -> None:
        heard.append(message)

    await system.spawn(scripted(start=start, receive=receive))
    await clock.advance(2.5)
    await system.stop_actor("a")
    await clock.advance(100)
    assert heard == [Say("tick"), Say("tick")]
    assert clock.next_deadline_s() is None


# Watch


async def test_unwatch_means_that_no_down_comes(system: System, clock: ManualClock) -> None:
    heard: list[Message] = []

    async def start(actor: Scripted) -> None:
        actor.context.watch("p")
        actor.context.unwatch("p")

    async def receive(actor: Scripted, message: Message) -> None:
        heard.append(message)

    await system.spawn(ActorSpec(Parrot, "p"))
    await system.spawn(scripted(start=start, receive=receive))
    await system.stop_actor("p")
    await clock.settle()
    assert heard == []


async def test_a_down_is_never_refused_by_a_full_mailbox(system: System, clock: ManualClock) -> None:
    watcher = await system.spawn(ActorSpec(Parrot, "w", mailbox=1))
    for number in range(20):
        await system.spawn(ActorSpec(Parrot, f"p{number}"))
        await watcher.ask(Observe(f"p{number}"), timeout=1.0)
    blocking = asyncio.create_task(watcher.ask(Nap(0.05), timeout=5.0))
    await asyncio.sleep(0)
    for number in range(20):
        await system.stop_actor(f"p{number}")
    await blocking
    assert len((await watcher.ask(Recall(), timeout=1.0, expect=Heard)).texts) == 20


async def test_watching_again_after_a_restart_watches_the_new_incarnation(system: System, clock: ManualClock) -> None:
    watcher = await system.spawn(ActorSpec(Parrot, "w"))
    phoenix = await system.spawn(ActorSpec(Parrot, "p", restart="permanent"))
    for _ in range(2):
        await watcher.ask(Observe("p"), timeout=1.0)
        await phoenix.tell(Crash("x"))
        await clock.advance(10)
    heard = await watcher.ask(Recall(), timeout=1.0, expect=Heard)
    assert heard.texts == ("p down: ValueError: x",) * 2


# Status


async def test_the_tree_shows_state_and_survives_a_broken_snapshot(system: System) -> None:
    class Sick(Actor):
        def snapshot(self) -> dict[str, Any]:
            raise RuntimeError("sick")

    await system.spawn(ActorSpec(Sick, "sick", mailbox=7))
    status = {status.name: status for status in system.tree()}["sick"]
    assert (status.kind, status.state, status.capacity) == ("Sick", "running", 7)
    assert status.snapshot == {"snapshot_error": "sick"}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(status), type=type(status)) == status


async def test_a_factory_can_be_named_by_its_path(system: System) -> None:
    ref = await system.spawn(ActorSpec("tests.doubles.processes:Parrot", "by-path"))
    assert await ref.ask(Say("hi"), timeout=1.0) == Say("hi")


async def test_a_system_without_a_placement_says_that_it_cannot_start_processes(system: System) -> None:
    with pytest.raises(ProcessFailed, match="placement"):
        await system.spawn(ProcessSpec("p", "tests.doubles.processes:brief"))


# Messages and errors


@pytest.mark.parametrize("message", [Say("x"), Nap(1.5), Heard(("a", "b")), Down("a", "b", True), Done()])
def test_a_message_survives_the_wire(message: Message) -> None:
    assert decode(*encode(message)) == message


def test_an_unknown_tag_and_a_body_that_does_not_fit_are_typed_errors() -> None:
    with pytest.raises(UnknownMessage, match=r"test\.unheard"):
        decode("test.unheard", b"\x80")
    _, body = encode(Say("x"))
    for broken in (b"", b"\xc1", body[:-1], encode(Nap(1.0))[1]):
        with pytest.raises(UnknownMessage):
            decode("test.say", broken)


def test_a_message_that_cannot_be_written_is_the_senders_error() -> None:
    class Odd(Message, tag="test.odd"):
        thing: Any

    with pytest.raises(UnknownMessage):
        encode(Odd(object()))
    with pytest.raises(UnknownMessage, match="limit"):
        encode(Say("x" * BODY_BYTES_MAX))


def test_messages_cannot_be_changed() -> None:
    message: Any = Say("x")
    with pytest.raises(AttributeError):
        message.text = "y"


def test_each_error_carries_its_remedy_and_crosses_processes() -> None:
    kinds: list[type[ActorError]] = [ActorError, *ActorError.__subclasses__()]
    assert 8 <= len(kinds) <= 13
    for kind in kinds:
        error = kind("detail")
        assert str(error).startswith("detail: ")
        assert "." in str(error)
        twin = from_wire(*to_wire(error))
        assert (type(twin), str(twin)) == (kind, str(error))
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    assert isinstance(from_wire(*to_wire(ValueError("odd"))), ActorFailed)
    assert type(from_wire("Unheard", "x")) is ActorError


# Clock and watchdog


async def test_the_manual_clock_jumps_from_deadline_to_deadline(clock: ManualClock) -> None:
    seen: list[float] = []
    for delay_s in (5.0, 1.0, 3.0):
        clock.call_later(delay_s, lambda: seen.append(clock.monotonic()))
    start = clock.now()
    assert await clock.jump()
    assert seen == [1.0]
    await clock.advance(10)
    assert seen == [1.0, 3.0, 5.0]
    assert clock.now() - start == timedelta(seconds=11)
    assert not await clock.jump()


async def test_driving_what_waits_for_no_timer_is_an_error(clock: ManualClock) -> None:
    with pytest.raises(TimeoutError):
        await clock.drive(asyncio.Event().wait())


async def test_the_system_clock_tells_aware_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)


async def test_the_watchdog_logs_the_stack_of_whoever_holds_the_loop_and_measures_the_lag() -> None:
    watch = LoopWatch("test", stall_s=0.1)
    with capture_logs() as logs:
        watch.start()
        async with System("blocked") as system:
            ref = await system.spawn(ActorSpec(Parrot, "blocker"))
            await ref.ask(Block(0.5), timeout=5.0)
            await asyncio.sleep(0.06)
        status = watch.status()
        watch.stop()
    stalls = [entry for entry in logs if entry["event"] == "loop.stalled"]
    assert "time.sleep(message.seconds)" in stalls[0]["stack"]
    assert status.stalls >= 1
    assert status.p99_ms > 100
