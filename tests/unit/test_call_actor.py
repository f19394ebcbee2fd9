"""A call's actor: a fault of ours ends the call truthfully, the end of its host lets it go on elsewhere."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import pytest_asyncio

from actors.call import CallActor, Desk
from actors.runtime import ActorSpec, System
from bots.record import Record
from infra.database.call_records import Call, Claim
from infra.database.call_states import State
from infra.settings import load


class Store:
    """Keeps what a call's actor asks of the database."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    async def advance(self, _call: str, to: str, *, reason: str | None = None, epoch: int | None = None) -> None:
        self.asked.append(("advance", to, reason))

    async def release(self, _call: str, epoch: int, *, moved: bool) -> None:
        self.asked.append(("release", epoch, moved))


def claim() -> Claim:
    now = dt.datetime.now(dt.UTC)
    nothing: dict[str, Any] = dict.fromkeys(Call.__struct_fields__)
    told = {"id": "call_x", "direction": "inbound", "state": State.IN_PROGRESS, "persona": "mia", "epoch": 3}
    return Claim(Call(**nothing | told | {"flow": {}, "options": {}, "created_at": now, "changed_at": now}), ())


def broken(_call: str, _persona: str, _options: object, _record: Record) -> Any:
    raise RuntimeError("no engines today")


@pytest_asyncio.fixture
async def store() -> Store:
    return Store()


def actor(store: Store, tmp_path: Path) -> CallActor:
    desk = Desk(store, load(environ={}), broken, tmp_path)  # type: ignore[arg-type]
    return CallActor(claim(), None, desk)  # type: ignore[arg-type]


async def test_an_exception_ends_its_call_as_a_failure(store: Store, tmp_path: Path) -> None:
    """COM-02, COM-13: never reported as success."""
    async with System("host-1") as system:
        ref = await system.spawn(ActorSpec(lambda: actor(store, tmp_path), "call/call_x"))
        await system.wait_down(ref.address)
    assert store.asked == [("advance", "ending", "pipeline_error")]


class Talking(CallActor):
    """A call in the middle of its conversation."""

    async def _live(self) -> None:
        await asyncio.Event().wait()


async def test_a_host_that_ends_in_order_lets_its_calls_go_on_elsewhere(store: Store, tmp_path: Path) -> None:
    """COM-15, COM-16: released for the next holder, not ended."""
    desk = Desk(store, load(environ={}), broken, tmp_path)  # type: ignore[arg-type]
    async with System("host-1") as system:
        ref = await system.spawn(ActorSpec(lambda: Talking(claim(), None, desk), "call/call_x"))  # type: ignore[arg-type]
        await system.stop_actor(ref.address, "the host stops")
    assert store.asked == [("release", 3, True)]
