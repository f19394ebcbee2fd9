"""Supervision: what each policy and strategy promises in docs/actors.md, one promise a test, no real time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.runtime import (
    Actor,
    ActorFailed,
    ActorGone,
    ActorSpec,
    Backoff,
    ManualClock,
    Message,
    Supervision,
    Supervisor,
    System,
)
from tests.doubles.processes import Crash, Nap, Parrot, Quit, Say

EVER = Supervision(intensity=1000)


class World:
    """A system on a manual clock, and a record of every start and stop in it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.system = System("test", clock=self.clock, rng=random.Random(1), supervision=EVER)
        self.log: list[str] = []
        self.failing: set[str] = set()

    def child(self, name: str, restart: Any = "permanent", **fields: Any) -> ActorSpec:
        return ActorSpec(Recorded, name, {"world": self}, restart=restart, **fields)

    async def family(self, *children: ActorSpec, **policy: Any) -> None:
        """A supervisor `top` over these children."""
        supervision = Supervision(**{"intensity": 1000, **policy})
        spec = ActorSpec(Supervisor, "top", {"children": children}, restart="permanent", supervision=supervision)
        await self.system.spawn(spec)
        self.log.clear()

    async def crash(self, name: str) -> None:
        await self.system.ref(name).tell(Crash())
        await self.clock.settle()

    async def quit(self, name: str) -> None:
        await self.system.ref(name).tell(Quit())
        await self.clock.settle()

    def alive(self, *names: str) -> list[str]:
        return [name for name in names if self.system.has(name)]

    def incarnation(self, name: str) -> int:
        return {status.name: status.restarts for status in self.system.tree()}[name]


class Recorded(Parrot):
    """A parrot that says when it starts and stops, and fails to start on demand."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def start(self) -> None:
        self.world.log.append(f"+{self.context.name}")
        if self.context.name in self.world.failing:
            raise ValueError("will not start")

    async def stop(self, reason: str) -> None:
        self.world.log.append(f"-{self.context.name}")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.system:
        yield made
    assert made.system.tree() == ()


# Restart policies


@pytest.mark.parametrize(
    ("restart", "how", "returns"),
    [
        ("permanent", "crash", True),
        ("permanent", "quit", True),
        ("transient", "crash", True),
        ("transient", "quit", False),
        ("temporary", "crash", False),
        ("temporary", "quit", False),
    ],
)
async def test_the_restart_policy_decides_whether_a_child_returns(
    world: World, restart: str, how: str, returns: bool
) -> None:
    await world.family(world.child("a", restart))
    await getattr(world, how)("a")
    await world.clock.advance(60)
    assert world.system.has("a") is returns
    assert world.log == (["-a", "+a"] if returns else ["-a"])


async def test_a_child_that_its_supervisor_stops_never_returns(world: World) -> None:
    await world.system.spawn(world.child("a"))
    await world.system.stop_actor("a")
    await world.clock.advance(60)
    assert not world.system.has("a")


async def test_a_child_that_crashes_while_it_is_stopped_for_good_does_not_return(world: World) -> None:
    class Sore(Actor):
        async def receive(self, message: Message) -> Message | None:
            try:
                await self.context.clock.sleep(100)
            finally:
                raise ValueError("sore")

    await world.system.spawn(ActorSpec(Sore, "sore", restart="permanent", stop_s=1.0))
    await world.system.ref("sore").tell(Say())
    await world.clock.drive(world.system.stop_actor("sore"))
    await world.clock.advance(60)
    assert not world.system.has("sore")


async def test_a_child_whose_first_start_fails_is_not_kept(world: World) -> None:
    world.failing.add("a")
    with pytest.raises(ActorFailed, match="will not start"):
        await world.system.spawn(world.child("a"))
    await world.clock.advance(60)
    assert world.log == ["+a"]


async def test_a_start_that_fails_during_a_restart_is_tried_again(world: World) -> None:
    await world.family(world.child("a"))
    world.failing.add("a")
    await world.crash("a")
    assert not world.system.has("a")
    world.failing.clear()
    await world.clock.advance(60)
    assert world.system.has("a")


async def test_a_name_is_gone_while_its_actor_waits_for_a_restart_and_the_tree_says_waiting(world: World) -> None:
    await world.family(world.child("a"), backoff=Backoff(base_s=5.0))
    await world.crash("a")
    await world.crash("a")
    with pytest.raises(ActorGone):
        await world.system.ref("a").ask(Say(), timeout=1.0)
    assert [status.state for status in world.system.tree() if status.name == "a"] == ["waiting"]
    await world.clock.advance(10)
    assert world.system.has("a")


async def test_a_child_can_be_stopped_while_it_waits_for_a_restart(world: World) -> None:
    await world.system.spawn(world.child("a"))
    await world.crash("a")
    await world.crash("a")
    assert not world.system.has("a")
    await world.system.stop_actor("a")
    await world.clock.advance(60)
    assert not world.system.has("a")


# Strategies


async def test_one_for_one_restarts_only_the_crashed_child(world: World) -> None:
    await world.family(world.child("a"), world.child("b"), world.child("c"))
    await world.crash("b")
    assert world.log == ["-b", "+b"]


async def test_one_for_all_stops_the_siblings_in_reverse_and_starts_all_in_order(world: World) -> None:
    await world.family(world.child("a"), world.child("b"), world.child("c"), strategy="one_for_all")
    await world.crash("b")
    assert world.log == ["-b", "-c", "-a", "+a", "+b", "+c"]


async def test_rest_for_one_restarts_the_crashed_child_and_those_started_after_it(world: World) -> None:
    await world.family(*(world.child(name) for name in "abcd"), strategy="rest_for_one")
    await world.crash("b")
    assert world.log == ["-b", "-d", "-c", "+b", "+c", "+d"]


async def test_a_temporary_sibling_that_is_stopped_with_the_others_stays_away(world: World) -> None:
    await world.family(world.child("a"), world.child("b", "temporary"), world.child("c"), strategy="one_for_all")
    await world.crash("a")
    await world.clock.advance(60)
    assert world.alive("a", "b", "c") == ["a", "c"]


async def test_the_crash_of_a_temporary_child_leaves_its_siblings_alone(world: World) -> None:
    await world.family(world.child("a"), world.child("b", "temporary"), strategy="one_for_all")
    await world.crash("b")
    await world.clock.advance(60)
    assert world.log == ["-b"]


async def test_a_child_that_had_ended_stays_ended_when_all_restart(world: World) -> None:
    await world.family(world.child("a"), world.child("b", "transient"), strategy="one_for_all")
    await world.quit("b")
    await world.crash("a")
    await world.clock.advance(60)
    assert world.alive("a", "b") == ["a"]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("order", ["abc", "cba", "bca", "acb"])
async def test_simultaneous_crashes_leave_no_child_behind(world: World, strategy: str, order: str) -> None:
    await world.family(*(world.child(name) for name in "abc"), strategy=strategy)
    for name in order:
        await world.system.ref(name).tell(Crash())
    await world.clock.advance(120)
    assert world.alive("a", "b", "c") == ["a", "b", "c"]


async def test_a_start_that_fails_in_a_group_begins_another_round(world: World) -> None:
    await world.family(*(world.child(name) for name in "abc"), strategy="one_for_all")
    world.failing.add("b")
    await world.crash("a")
    assert world.log == ["-a", "-c", "-b", *["+a", "+b", "-a"] * 2]
    world.failing.clear()
    await world.clock.advance(60)
    assert world.alive("a", "b", "c") == ["a", "b", "c"]


async def test_a_stop_that_comes_before_the_first_step_of_a_restart_does_not_hang(world: World) -> None:
    inner = ActorSpec(
        Supervisor,
        "inner",
        {"children": (world.child("a"), world.child("b"))},
        restart="permanent",
        supervision=Supervision("one_for_all", intensity=1000),
    )
    await world.family(inner, world.child("c"), strategy="one_for_all")
    await world.system.ref("a").tell(Crash())
    await world.system.ref("c").tell(Crash())
    await world.clock.advance(120)
    assert world.alive("a", "b", "c") == ["a", "b", "c"]


async def test_a_crash_while_a_group_restarts_covers_what_the_first_left_down(world: World) -> None:
    await world.family(
        *(world.child(name) for name in "abc"), strategy="rest_for_one", backoff=Backoff(base_s=1.0, jitter=0.0)
    )
    await world.crash("b")
    await world.crash("b")
    assert world.alive("a", "b", "c") == ["a"]
    await world.crash("a")
    await world.clock.advance(60)
    assert world.alive("a", "b", "c") == ["a", "b", "c"]


# Intensity, backoff, escalation


async def test_the_first_restart_is_immediate_and_later_ones_wait_longer_and_longer(world: World) -> None:
    await world.family(world.child("a"), backoff=Backoff(base_s=1.0, most_s=4.0, jitter=0.0), period_s=1000)
    waits = []
    for _ in range(6):
        before = world.clock.monotonic()
        await world.crash("a")
        while not world.system.has("a"):
            await world.clock.jump()
        waits.append(world.clock.monotonic() - before)
    assert waits == [0.0, 1.0, 2.0, 4.0, 4.0, 4.0]


async def test_a_quiet_period_forgives(world: World) -> None:
    await world.family(world.child("a"), backoff=Backoff(base_s=1.0, jitter=0.0), period_s=30)
    for _ in range(3):
        await world.crash("a")
        await world.clock.advance(10)
    await world.clock.advance(60)
    await world.crash("a")
    assert world.system.has("a")


@pytest.mark.parametrize("attempt", range(1, 70, 4))
def test_jitter_only_lengthens_a_wait_and_only_by_its_share(attempt: int) -> None:
    backoff, bare = Backoff(jitter=0.5), Backoff(jitter=0.0)
    rng = random.Random(attempt)
    shortest = bare.delay_s(attempt, rng)
    for _ in range(50):
        assert shortest <= backoff.delay_s(attempt, rng) <= shortest * 1.5


async def test_a_supervisor_bears_its_intensity_and_not_one_more(world: World) -> None:
    await world.family(world.child("a"), intensity=2, backoff=Backoff(base_s=0.0))
    for _ in range(2):
        await world.crash("a")
        await world.clock.advance(1)
    assert world.incarnation("top") == 0
    await world.crash("a")
    await world.clock.advance(1)
    assert world.incarnation("top") == 1
    assert world.system.has("a")


async def test_a_supervisor_that_gives_up_stops_its_other_children_first(world: World) -> None:
    await world.family(world.child("a"), world.child("b"), intensity=0)
    await world.crash("a")
    assert world.log == ["-a", "-b", "+a", "+b"]


async def test_escalation_at_the_top_stops_the_system_and_says_why() -> None:
    system = System("top", clock=ManualClock(), supervision=Supervision(intensity=0))
    await system.spawn(ActorSpec(Parrot, "a", restart="permanent"))
    await system.spawn(ActorSpec(Parrot, "b", restart="permanent"))
    await system.ref("a").tell(Crash("too much"))
    assert "too much" in await system.wait_failed()
    await system.wait_stopped()
    assert system.status().failed
    assert not system.has("b")
    with pytest.raises(ActorGone):
        await system.spawn(ActorSpec(Parrot, "c"))


# Parents and children


class Parent(Recorded):
    """Has two children of its own."""

    async def start(self) -> None:
        await super().start()
        for name in ("x", "y"):
            await self.context.spawn(self.world.child(f"{self.context.name}/{name}"))


async def test_the_children_of_an_actor_end_before_it_whatever_ends_it(world: World) -> None:
    for message in (Quit(), Crash()):
        await world.system.spawn(ActorSpec(Parent, "p", {"world": world}))
        world.log.clear()
        await world.system.ref("p").tell(message)
        await world.clock.settle()
        assert sorted(world.log[:2]) == ["-p/x", "-p/y"]
        assert world.log[2:] == ["-p"]
        assert not world.alive("p", "p/x", "p/y")


async def test_a_restarted_actor_has_new_children(world: World) -> None:
    await world.system.spawn(ActorSpec(Parent, "p", {"world": world}, restart="permanent"))
    await world.crash("p")
    assert world.alive("p", "p/x", "p/y") == ["p", "p/x", "p/y"]


async def test_a_handler_that_outlasts_a_stop_is_cancelled_after_its_time(world: World) -> None:
    class Slow(Recorded):
        async def receive(self, message: Message) -> Message | None:
            await self.context.clock.sleep(1000)
            return None

    await world.system.spawn(ActorSpec(Slow, "slow", {"world": world}, stop_s=3.0))
    await world.system.ref("slow").tell(Nap())
    await world.clock.settle()
    await world.clock.drive(world.system.stop_actor("slow"))
    assert world.clock.monotonic() == pytest.approx(3.0)
    assert world.log == ["+slow", "-slow"]


async def test_a_stop_hook_that_hangs_is_cut_off(world: World) -> None:
    class Hung(Actor):
        async def stop(self, reason: str) -> None:
            await self.context.clock.sleep(1000)

    await world.system.spawn(ActorSpec(Hung, "hung", stop_s=2.0))
    await world.clock.drive(world.system.stop_actor("hung"))
    assert world.clock.monotonic() == pytest.approx(2.0)


async def test_a_system_that_stops_cancels_pending_restarts(world: World) -> None:
    await world.family(world.child("a"), backoff=Backoff(base_s=100.0))
    await world.crash("a")
    await world.crash("a")
    await world.system.stop()
    await world.clock.advance(500)
    assert world.log.count("+a") == 1
