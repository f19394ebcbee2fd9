"""Supervision: the children of one actor (or of a system), and what happens when one of them ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from actors.runtime.errors import ActorError, ActorGone, NameTaken, SupervisionFailed
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, Supervision

if TYPE_CHECKING:
    from actors.runtime.cell import Cell, Exit
    from actors.runtime.clock import Timer
    from actors.runtime.system import System

log = structlog.get_logger()


@dataclass(slots=True)
class Child:
    """One place under a supervisor; incarnations come and go in it."""

    spec: ActorSpec
    cell: Cell | None = None
    established: bool = False  # it has run once, so its policy applies
    halted: Cell | None = None  # the incarnation that a round of its siblings stopped
    restarts: int = 0
    recent: deque[float] = field(default_factory=deque)
    timer: Timer | None = None

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Children:
    """Keeps children alive as their policies say. `on_failed` is told once when they crash too often."""

    def __init__(
        self, system: System, owner: str, supervision: Supervision, on_failed: Callable[[Exception], None]
    ) -> None:
        self.owner = owner
        self._system = system
        self._supervision = supervision
        self._on_failed = on_failed
        self._children: dict[str, Child] = {}
        self._restarts: deque[float] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._claiming = asyncio.Lock()
        self._round = 0
        self._closing = False

    def cells(self) -> list[Cell]:
        """The living incarnations, in the order of their first start."""
        return [child.cell for child in self._children.values() if child.cell is not None]

    def places(self) -> list[Child]:
        """All children, those that wait for a restart included."""
        return list(self._children.values())

    async def spawn(self, spec: ActorSpec) -> Ref:
        """Start a child for the first time and wait until its `start` has returned."""
        if self._closing:
            raise ActorGone(f"{self.owner or self._system.name} is stopping and starts nothing")
        if spec.name in self._children:
            raise NameTaken(spec.name)
        child = self._children[spec.name] = Child(spec)
        try:
            cell = await self._launch(child)
        except BaseException:
            self._remove(child)
            raise
        try:
            await asyncio.shield(cell.started)
        except asyncio.CancelledError:
            cell.request_stop("its start was cancelled", ordered=True)
            raise
        return self._system.ref(spec.name)

    async def stop(self, name: str, reason: str) -> None:
        """End a child for good, whatever its policy, and wait until it is gone."""
        child = self._children.get(name)
        if child is None:
            return
        self._remove(child)
        if child.cell is not None:
            child.cell.request_stop(reason, ordered=True)
            await asyncio.shield(child.cell.ended)

    async def close(self) -> None:
        """End all children: one after the other in reverse order, or together if they are independent."""
        self._closing = True
        self._round += 1
        for child in self._children.values():
            child.cancel_timer()
        cells = self.cells()[::-1]
        independent = self._supervision.strategy == "one_for_one"
        for cell in cells if independent else []:
            cell.request_stop("its supervisor stops", ordered=True)
        for cell in cells:
            cell.request_stop("its supervisor stops", ordered=True)
            await asyncio.shield(cell.ended)
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._children.clear()

    def ended(self, cell: Cell, outcome: Exit) -> None:
        """An incarnation has ended: forget the child or arrange its return."""
        child = self._children.get(cell.name)
        if child is None or child.cell is not cell:
            return
        child.cell = None
        child.established = child.established or cell.has_started
        if child.halted is cell and child.established:
            return  # the round that stopped it starts it again
        policy = child.spec.restart
        returns = policy == "permanent" or (policy == "transient" and outcome.crashed)
        if self._closing or outcome.ordered or not child.established or not returns:
            self._remove(child)
            return
        self._arrange_return(child, outcome.reason)

    def _arrange_return(self, child: Child, reason: str) -> None:
        policy = self._supervision
        now_s = self._system.clock.monotonic()
        for times in (self._restarts, child.recent):
            times.append(now_s)
            while times and times[0] < now_s - policy.period_s:
                times.popleft()
        if len(self._restarts) > policy.intensity:
            self._closing = True
            self._remove(child)
            self._on_failed(
                SupervisionFailed(
                    f"{len(self._restarts)} restarts within {policy.period_s:g} s under "
                    f"{self.owner or self._system.name}, the last of {child.spec.name} ({reason})"
                )
            )
            return
        child.restarts += 1
        delay_s = policy.backoff.delay_s(len(child.recent), self._system.rng)
        log.info("actor.restarting", actor=child.spec.name, delay_s=round(delay_s, 3), reason=reason)
        if policy.strategy != "one_for_one":
            self._run(self._start_round, delay_s)
        elif delay_s > 0:
            child.timer = self._system.clock.call_later(delay_s, self._run, self._revive, child)
        else:
            self._run(self._revive, child)

    # One for one

    async def _revive(self, child: Child) -> None:
        child.timer = None
        if self._closing or self._children.get(child.spec.name) is not child:
            return
        try:
            cell = await self._launch(child)
        except ActorGone:
            return
        except ActorError as error:
            self._arrange_return(child, str(error))
            return
        await _settled(cell)

    # One for all, rest for one. A crash during a round begins another, which covers what the first left down

    async def _start_round(self, delay_s: float) -> None:
        self._round += 1
        this_round = self._round
        places = self.places()
        down = [place for place, child in enumerate(places) if child.established and child.cell is None]
        if not down:
            return
        group = places if self._supervision.strategy == "one_for_all" else places[down[0] :]
        for child in reversed(group):
            if child.cell is not None:
                child.halted = child.cell
                child.cell.request_stop("a sibling crashed", ordered=True)
                await asyncio.shield(child.cell.ended)
            if child.spec.restart == "temporary":
                self._remove(child)
        if this_round == self._round:
            await self._system.clock.sleep(delay_s)
            await self._start_group(group, this_round)

    async def _start_group(self, group: list[Child], this_round: int) -> None:
        for child in group:
            if this_round != self._round:
                return
            if self._children.get(child.spec.name) is not child or child.cell is not None:
                continue
            try:
                cell = await self._launch(child, this_round)
            except ActorGone:
                continue
            except ActorError as error:
                self._arrange_return(child, str(error))
                return
            await _settled(cell)

    # Both

    async def _launch(self, child: Child, this_round: int | None = None) -> Cell:
        async with self._claiming:
            cell = await self._system.create_cell(child.spec, self, restarts=child.restarts)
            superseded = this_round is not None and this_round != self._round
            if self._closing or superseded or self._children.get(child.spec.name) is not child:
                self._system.forget(cell)
                raise ActorGone(f"{child.spec.name} was stopped before it started")
            child.cell = cell
            cell.launch()
            return cell

    def _remove(self, child: Child) -> None:
        child.cancel_timer()
        if self._children.get(child.spec.name) is child:
            del self._children[child.spec.name]

    def _run(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        task = asyncio.get_running_loop().create_task(work(*args), name=f"supervision under {self.owner}")
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervision.failed", owner=self.owner, exc_info=error)
            self._closing = True
            self._on_failed(SupervisionFailed(str(error)))


async def _settled(cell: Cell) -> None:
    """Wait until an incarnation has started or ended."""
    outcomes: list[asyncio.Future[Any]] = [cell.started, cell.ended]
    await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
