"""Supervision on random trees under random crashes: every child ends as its policy says, every watcher hears once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from actors.runtime import (
    Actor,
    ActorGone,
    ActorSpec,
    Backoff,
    Down,
    ManualClock,
    Message,
    Supervision,
    Supervisor,
    System,
)
from tests.doubles.processes import Crash, Parrot, Quit

pytestmark = pytest.mark.heavy
ENDLESS = 1_000_000


@dataclass
class Leaf:
    """A child, and what the model believes of it."""

    name: str
    restart: str
    alive: bool = True
    gone: bool = False  # for good, as long as its supervisor lives


@dataclass
class Branch:
    """A supervisor in the model."""

    name: str
    restart: str
    strategy: str
    children: list[Branch | Leaf] = field(default_factory=list)
    gone: bool = False

    def leaves(self) -> Iterator[Leaf]:
        for child in self.children:
            if isinstance(child, Leaf):
                yield child
            else:
                yield from child.leaves()

    def parent_of(self, leaf: Leaf) -> Branch:
        for child in self.children:
            if child is leaf:
                return self
            if isinstance(child, Branch) and any(found is leaf for found in child.leaves()):
                return child.parent_of(leaf)
        raise LookupError(leaf.name)

    def spec(self, intensity: int) -> ActorSpec:
        return ActorSpec(
            Supervisor,
            self.name,
            {"children": tuple(_spec(child, intensity) for child in self.children)},
            restart=self.restart,  # type: ignore[arg-type]
            supervision=Supervision(
                strategy=self.strategy,  # type: ignore[arg-type]
                intensity=intensity,
                period_s=30.0,
                backoff=Backoff(base_s=0.5, most_s=4.0),
            ),
        )


def _spec(child: Branch | Leaf, intensity: int) -> ActorSpec:
    if isinstance(child, Branch):
        return child.spec(intensity)
    return ActorSpec(Parrot, child.name, restart=child.restart)  # type: ignore[arg-type]


RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
SHAPES = st.recursive(
    RESTARTS, lambda inner: st.tuples(RESTARTS, STRATEGIES, st.lists(inner, min_size=1, max_size=3)), max_leaves=8
)
TREES = st.tuples(st.just("permanent"), STRATEGIES, st.lists(SHAPES, min_size=1, max_size=4))
ACTIONS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["crash", "quit"])), max_size=12)
SCALE = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    database=None,
)


def grow(shape: Any, name: str = "top") -> Branch | Leaf:
    if isinstance(shape, str):
        return Leaf(name, shape)
    restart, strategy, inner = shape
    return Branch(name, restart, strategy, [grow(part, f"{name}/{place}") for place, part in enumerate(inner)])


def predict(tree: Branch, leaf: Leaf, action: str) -> None:
    """What docs/actors.md says about one action on a settled tree."""
    if not leaf.alive:
        return
    returns = leaf.restart == "permanent" or (leaf.restart == "transient" and action == "crash")
    if not returns:
        leaf.alive, leaf.gone = False, True
        return
    parent = tree.parent_of(leaf)
    place = next(place for place, child in enumerate(parent.children) if child is leaf)
    group = {
        "one_for_one": [],
        "one_for_all": [child for child in parent.children if child is not leaf],
        "rest_for_one": parent.children[place + 1 :],
    }[parent.strategy]
    for child in group:
        restart_with_sibling(child)


def restart_with_sibling(child: Branch | Leaf) -> None:
    if child.gone:
        return
    if child.restart == "temporary":
        child.gone = True
        for leaf in [child] if isinstance(child, Leaf) else child.leaves():
            leaf.alive = False
    elif isinstance(child, Branch):
        begin_anew(child)


def begin_anew(branch: Branch) -> None:
    """A supervisor that restarts starts all its children, those that had ended included."""
    branch.gone = False
    for child in branch.children:
        if isinstance(child, Leaf):
            child.alive, child.gone = True, False
        else:
            begin_anew(child)


class Watcher(Actor):
    """Counts the `Down`s that it gets."""

    def __init__(self, target: str, counts: dict[str, int]) -> None:
        self._target = target
        self._counts = counts

    async def start(self) -> None:
        self._counts[self.context.name] = 0
        self.context.watch(self._target)

    async def receive(self, message: Message) -> Message | None:
        if isinstance(message, Down):
            self._counts[self.context.name] += 1
        return None


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of wanted crashes need no log."""
    with capture_logs():
        yield


class Run:
    """One tree in a real system on a manual clock."""

    def __init__(self, tree: Branch, intensity: int) -> None:
        self.clock = ManualClock()
        self.system = System("run", clock=self.clock, rng=random.Random(7), supervision=Supervision(intensity=ENDLESS))
        self.tree = tree
        self.intensity = intensity
        self.counts: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    async def begin(self) -> None:
        await self.system.spawn(self.tree.spec(self.intensity))

    async def watch_all(self) -> None:
        for leaf in self.tree.leaves():
            name = f"watcher-{len(self.counts)}"
            await self.system.spawn(ActorSpec(Watcher, name, {"target": leaf.name, "counts": self.counts}))

    async def act(self, leaf: Leaf, action: str) -> None:
        with contextlib.suppress(ActorGone):  # it may have ended, or wait for a restart
            await self.system.ref(leaf.name).tell(Crash() if action == "crash" else Quit())

    async def finish(self) -> None:
        """End the tree; then each watcher must have heard exactly once."""
        await self.system.stop_actor("top")
        await self.clock.settle()
        assert set(self.counts.values()) <= {1}, self.counts
        assert [status.name for status in self.system.tree() if status.name.startswith("top")] == []
        await self.system.stop()


@SCALE
@given(shape=TREES, actions=ACTIONS)
def test_each_child_ends_in_the_state_that_its_policy_says(shape: Any, actions: list[tuple[int, str]]) -> None:
    async def scenario() -> None:
        tree = grow(shape)
        assert isinstance(tree, Branch)
        run = Run(tree, ENDLESS)
        await run.begin()
        leaves = list(tree.leaves())
        await run.watch_all()
        for index, action in actions:
            leaf = leaves[index % len(leaves)]
            await run.act(leaf, action)
            predict(tree, leaf, action)
            await run.clock.advance(100)
            await run.watch_all()
            found = {leaf.name: run.system.has(leaf.name) for leaf in leaves}
            assert found == {leaf.name: leaf.alive for leaf in leaves}, (index, action)
        await run.finish()

    asyncio.run(scenario())


@SCALE
@given(shape=TREES, actions=ACTIONS, pauses=st.lists(st.floats(0, 3), min_size=12, max_size=12), seed=st.integers(0, 9))
def test_crashes_at_any_moment_lose_no_permanent_child_and_no_down(
    shape: Any, actions: list[tuple[int, str]], pauses: list[float], seed: int
) -> None:
    async def scenario() -> None:
        tree = grow(_all_permanent(shape))
        assert isinstance(tree, Branch)
        run = Run(tree, ENDLESS)
        await run.begin()
        leaves = list(tree.leaves())
        for (index, action), pause in zip(actions, pauses, strict=False):
            if index % 3 != seed % 3:
                await run.watch_all()
            await run.act(leaves[index % len(leaves)], action)
            if pause > 0.5:
                await run.clock.advance(pause)
        await run.clock.advance(200)
        assert [leaf.name for leaf in leaves if not run.system.has(leaf.name)] == []
        await run.finish()

    asyncio.run(scenario())


@SCALE
@given(shape=TREES, actions=ACTIONS, intensity=st.integers(0, 3))
def test_escalation_restarts_whole_branches_and_the_tree_stands_again(
    shape: Any, actions: list[tuple[int, str]], intensity: int
) -> None:
    async def scenario() -> None:
        tree = grow(_all_permanent(shape))
        assert isinstance(tree, Branch)
        run = Run(tree, intensity)
        await run.begin()
        leaves = list(tree.leaves())
        await run.watch_all()
        for index, action in actions:
            await run.act(leaves[index % len(leaves)], action)
            await run.clock.settle()
            await run.watch_all()
        await run.clock.advance(300)
        assert [leaf.name for leaf in leaves if not run.system.has(leaf.name)] == []
        await run.finish()

    asyncio.run(scenario())


@SCALE
@given(messages=st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=60), capacity=st.integers(1, 20))
def test_a_mailbox_keeps_order_in_each_lane_and_never_exceeds_its_capacity(
    messages: list[tuple[bool, int]], capacity: int
) -> None:
    from actors.runtime.errors import MailboxFull
    from actors.runtime.mailbox import Envelope, Mailbox
    from tests.doubles.processes import Say, Urgent

    box = Mailbox(capacity)
    accepted: dict[bool, list[str]] = {True: [], False: []}
    refused = 0
    for urgent, number in messages:
        message: Message = Urgent(str(number)) if urgent else Say(str(number))
        try:
            box.put_nowait(Envelope(message))
            accepted[urgent].append(str(number))
        except MailboxFull:
            refused += 1
            assert len(accepted[urgent]) == capacity
    taken = []
    while (envelope := box.take_nowait()) is not None:
        taken.append(envelope.message.text)  # type: ignore[attr-defined]
    assert taken == accepted[True] + accepted[False]
    assert box.status().refused == refused


def _all_permanent(shape: Any) -> Any:
    if isinstance(shape, str):
        return "permanent"
    _, strategy, inner = shape
    return ("permanent", strategy, [_all_permanent(part) for part in inner])
