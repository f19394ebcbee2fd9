"""The call store against a real PostgreSQL."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
import pytest_asyncio

from infra.database.call_records import (
    Call,
    CarrierSidTaken,
    Claim,
    ConsentMissing,
    IllegalTransition,
    JournalGap,
    StaleEpoch,
    TicketRefused,
    UnknownCall,
)
from infra.database.call_states import ORDINARY, Reason, State
from infra.database.calls import CallStore
from infra.database.changes import RESYNC, Change, follow
from infra.database.nodes import NodeStore
from infra.database.pool import pool


@pytest_asyncio.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=8) as opened:
        yield opened


@pytest.fixture
def store(connections: asyncpg.Pool) -> CallStore:
    return CallStore(connections)


async def inbound(store: CallStore) -> Call:
    return await store.create("inbound", "mia", "+15550100001", "+15550100000")


async def claimed(store: CallStore) -> Claim:
    call = await inbound(store)
    await store.advance(call.id, State.IN_PROGRESS)
    return await store.claim(call.id, await store.issue_ticket(call.id), "node-1", "host-1")


async def test_a_call_walks_its_states_and_every_step_is_an_event(store: CallStore) -> None:
    """COM-13."""
    call = await store.create("outbound", "mia", "+1", "+2", {"limit_s": 60})
    for state in ("authorising", "dialing", "ringing", "in_progress"):
        assert (await store.advance(call.id, state)).state == state
    ending = await store.advance(call.id, "ending", reason="bot_hung_up")
    over = await store.advance(call.id, "completed", reason="caller_hung_up", data={"by": "carrier"})
    assert (ending.ended_reason, ending.over) == (None, False)
    assert (over.state, over.ended_reason, over.over) == (State.COMPLETED, Reason.BOT_HUNG_UP, True)
    assert over.answered_at is not None
    assert over.ended_at is not None
    assert over.options == {"limit_s": 60}
    events = await store.events(call.id)
    assert [event.seq for event in events] == list(range(1, 8))
    assert [event.data["state"] for event in events] == [
        "created", "authorising", "dialing", "ringing", "in_progress", "ending", "completed",
    ]  # fmt: skip
    assert events[-1].data == {"state": "completed", "reason": "bot_hung_up", "by": "carrier"}
    assert [event.seq for event in await store.events(call.id, after=5)] == [6, 7]


async def test_a_terminal_call_never_moves_again(store: CallStore) -> None:
    """COM-13, CMB-19."""
    call = await inbound(store)
    over = await store.advance(call.id, "failed", reason="media_never_arrived")
    for state, reason in (("completed", "operator"), ("in_progress", None), ("failed", "host_lost")):
        with pytest.raises(IllegalTransition) as refusal:
            await store.advance(call.id, state, reason=reason)
        assert refusal.value.call == over
    assert await store.get(call.id) == over


async def test_a_fault_outweighs_a_goodbye_under_way(store: CallStore) -> None:
    """COM-13: a crash never maps to completed."""
    claim = await claimed(store)
    await store.advance(claim.call.id, "ending", reason="bot_hung_up")
    over = await store.advance(claim.call.id, "failed", reason="host_lost")
    assert (over.state, over.ended_reason) == ("failed", "host_lost")


async def test_the_database_itself_refuses_a_crash_as_success(store: CallStore, connections: asyncpg.Pool) -> None:
    """COM-13: even a hand-written statement cannot complete a call for a reason that is no ordinary end."""
    call = await inbound(store)
    end = "update calls set state = 'completed', ended_reason = $2, ended_at = now() where id = $1"
    for reason in Reason:
        if reason in ORDINARY:
            await connections.execute(end, call.id, reason)
        else:
            with pytest.raises(asyncpg.CheckViolationError):
                await connections.execute(end, call.id, reason)


async def test_events_cannot_be_rewritten(store: CallStore, connections: asyncpg.Pool) -> None:
    await inbound(store)
    with pytest.raises(asyncpg.RaiseError):
        await connections.execute("update call_events set kind = 'other'")


async def test_an_unknown_call_is_named(store: CallStore) -> None:
    with pytest.raises(UnknownCall):
        await store.get("call_none")
    with pytest.raises(UnknownCall):
        await store.advance("call_none", "ringing")
    with pytest.raises(UnknownCall):
        await store.signal("call_none", "hang_up")
    with pytest.raises(UnknownCall):
        await store.claim("call_none", 1, "n", "h")
    with pytest.raises(UnknownCall):
        await store.heard("call_none", 1, 1, "x")


async def test_a_carrier_that_asks_twice_gets_one_call(store: CallStore) -> None:
    """COM-46."""
    calls = await asyncio.gather(*(store.create("inbound", "mia", "+1", "+2", carrier_sid="CA1") for _ in range(5)))
    assert len({call.id for call in calls}) == 1
    assert await store.by_carrier_sid("CA1") == calls[0]
    assert len(await store.events(calls[0].id)) == 1


async def test_a_carrier_sid_is_bound_once(store: CallStore) -> None:
    first, second = await inbound(store), await inbound(store)
    bound = await store.bind_carrier_sid(first.id, "CA1")
    assert await store.bind_carrier_sid(first.id, "CA1") == bound
    with pytest.raises(CarrierSidTaken):
        await store.bind_carrier_sid(first.id, "CA2")
    with pytest.raises(CarrierSidTaken):
        await store.bind_carrier_sid(second.id, "CA1")
    assert await store.by_carrier_sid("CA2") is None


async def test_of_two_claimants_one_wins(store: CallStore) -> None:
    """COM-15: the ticket works once, and one statement takes it and the epoch."""
    for _ in range(10):
        call = await inbound(store)
        ticket = await store.issue_ticket(call.id)
        claims = await asyncio.gather(
            *(store.claim(call.id, ticket, "node-1", f"host-{n}") for n in range(6)), return_exceptions=True
        )
        won = [claim for claim in claims if isinstance(claim, Claim)]
        assert len(won) == 1
        assert all(isinstance(claim, TicketRefused) for claim in claims if claim not in won)
        assert won[0].call.epoch == 1
        assert (await store.get(call.id)).host == won[0].call.host


async def test_only_the_newest_ticket_of_a_call_that_goes_on_is_good(store: CallStore) -> None:
    call = await inbound(store)
    old, new = await store.issue_ticket(call.id), await store.issue_ticket(call.id)
    for wrong in (old, new + 1, 0):
        with pytest.raises(TicketRefused):
            await store.claim(call.id, wrong, "n", "h")
    assert (await store.claim(call.id, new, "n", "h")).call.epoch == 1
    unused = await store.issue_ticket(call.id)
    await store.advance(call.id, "ending", reason="operator")
    with pytest.raises(TicketRefused):
        await store.claim(call.id, unused, "n", "h")
    with pytest.raises(TicketRefused):
        await store.issue_ticket(call.id)


WRITERS: dict[str, Callable[[CallStore, str, int], Awaitable[object]]] = {
    "advance": lambda s, c, e: s.advance(c, "ending", reason="bot_hung_up", epoch=e),
    "release": lambda s, c, e: s.release(c, e),
    "heard": lambda s, c, e: s.heard(c, e, 3, "late", {}, {"step": 9}),
    "replying": lambda s, c, e: s.replying(c, e, 3, "late", {"step": 9}),
    "spoke": lambda s, c, e: s.spoke(c, e, 2, "late", True, {"late": 1}),
    "consent": lambda s, c, e: s.consent(c, e, True),
    "recording": lambda s, c, e: s.recording(c, "late.wav", epoch=e),
}


@pytest.mark.parametrize("writer", WRITERS)
async def test_a_stale_host_can_write_nothing(store: CallStore, writer: str) -> None:
    """COM-15."""
    stale = await claimed(store)
    call_id = stale.call.id
    await store.heard(call_id, 1, 1, "hello")
    await store.replying(call_id, 1, 2, "hi there", {"step": 1})
    fresh = await store.claim(call_id, await store.issue_ticket(call_id), "node-2", "host-1")
    await store.consent(call_id, fresh.call.epoch, True)
    before = (await store.get(call_id), await store.turns(call_id), await store.events(call_id))
    with pytest.raises(StaleEpoch) as refusal:
        await WRITERS[writer](store, call_id, stale.call.epoch)
    assert (refusal.value.mine, refusal.value.current) == (1, 2)
    assert (await store.get(call_id), await store.turns(call_id), await store.events(call_id)) == before
    await WRITERS[writer](store, call_id, fresh.call.epoch)


@pytest.mark.parametrize("writer", WRITERS)
async def test_a_write_that_races_a_claim_is_before_it_or_nowhere(store: CallStore, writer: str) -> None:
    """COM-15: what a claimant reads cannot be changed by its predecessor afterwards."""
    for _ in range(5):
        stale = await claimed(store)
        call_id = stale.call.id
        await store.heard(call_id, 1, 1, "hello")
        await store.replying(call_id, 1, 2, "hi there", {"step": 1})
        await store.consent(call_id, 1, True)
        ticket = await store.issue_ticket(call_id)
        taken, _ = await asyncio.gather(
            store.claim(call_id, ticket, "node-2", "host-2"),
            WRITERS[writer](store, call_id, 1),
            return_exceptions=True,
        )
        if isinstance(taken, TicketRefused):  # `ending` was first
            continue
        assert isinstance(taken, Claim)
        after = await store.get(call_id)
        assert (after, await store.turns(call_id)) == (taken.call, taken.turns)


async def test_a_stale_heartbeat_holds_nothing(store: CallStore) -> None:
    mine, lost, over = await claimed(store), await claimed(store), await claimed(store)
    await store.claim(lost.call.id, await store.issue_ticket(lost.call.id), "node-2", "host-1")
    await store.advance(over.call.id, "completed", reason="caller_hung_up")
    epochs = {claim.call.id: claim.call.epoch for claim in (mine, lost, over)}
    assert await store.heartbeat(epochs) == {lost.call.id, over.call.id}
    assert await store.heartbeat({}) == frozenset()
    assert [call.id for call in await store.held("node-1", "host-1")] == [mine.call.id]


async def test_the_journal_is_contiguous_and_repeatable(store: CallStore) -> None:
    """COM-15."""
    call_id = (await claimed(store)).call.id
    with pytest.raises(JournalGap):
        await store.heard(call_id, 1, 2, "too far")
    for _ in range(2):
        await store.heard(call_id, 1, 1, "hello", {"stt_ms": 80}, {"step": 1})
    for _ in range(2):
        await store.replying(call_id, 1, 2, "Hi. How are you?", {"step": 2})
    await store.spoke(call_id, 1, 2, "Hi.", False, {"first_sound_ms": 90})
    await store.spoke(call_id, 1, 2, "Hi. How", False, text="Hi. How are")
    assert [turn.text for turn in await store.turns(call_id)] == ["hello", "Hi. How are"]
    await store.spoke(call_id, 1, 2, "Hi. How are you?", True, {"spoken_ms": 1200}, text="Hi. How are you?")
    with pytest.raises(JournalGap):
        await store.replying(call_id, 1, 1, "that was the caller's")
    with pytest.raises(JournalGap):
        await store.spoke(call_id, 1, 1, "that was the caller's", True)
    resumed = await store.claim(call_id, await store.issue_ticket(call_id), "node-1", "host-2")
    assert [(turn.number, turn.who, turn.text, turn.spoken, turn.done) for turn in resumed.turns] == [
        (1, "caller", "hello", "", True),
        (2, "bot", "Hi. How are you?", "Hi. How are you?", True),
    ]
    assert resumed.turns[0].timings == {"stt_ms": 80}
    assert resumed.turns[1].timings == {"first_sound_ms": 90, "spoken_ms": 1200}
    assert resumed.call.flow == {"step": 2}
    with pytest.raises(JournalGap):
        await store.heard(call_id, 2, 1, "an earlier epoch has written this")


async def test_a_released_call_waits_for_its_next_host(store: CallStore) -> None:
    claim = await claimed(store)
    released = await store.release(claim.call.id, 1)
    assert (released.node, released.host, released.epoch) == (None, None, 1)
    assert await store.release(claim.call.id, 1) == released
    assert await store.held("node-1") == ()


@pytest.mark.parametrize("moved", [True, False])
async def test_the_next_host_knows_whether_the_call_was_moved_on_purpose(store: CallStore, moved: bool) -> None:
    call_id = (await claimed(store)).call.id
    await store.release(call_id, 1, moved=moved)
    second = await store.claim(call_id, await store.issue_ticket(call_id), "node-1", "host-2")
    assert second.moved is moved
    third = await store.claim(call_id, await store.issue_ticket(call_id), "node-1", "host-3")
    assert not third.moved


async def test_a_recording_exists_only_with_consent(store: CallStore) -> None:
    call_id = (await claimed(store)).call.id
    for granted in (None, False):
        if granted is not None:
            await store.consent(call_id, 1, granted)
        with pytest.raises(ConsentMissing):
            await store.recording(call_id, "a.wav")
    await store.consent(call_id, 1, True)
    assert (await store.recording(call_id, "a.wav")).recording_path == "a.wav"


async def test_carrier_events_in_any_order_end_alike(store: CallStore) -> None:
    """COM-46, CMB-19: each event three times, shuffled."""
    events = [("1", "ringing"), ("2", "in-progress"), ("0", "initiated"), ("3", "completed")]
    for order in (events, events[::-1], events[2:] + events[:2]):
        call = await store.create("outbound", "mia", "+1", "+2")
        for key, status in order * 3:
            after = await store.carrier_event(call.id, key, status, {"SequenceNumber": key})
        assert (after.state, after.ended_reason) == (State.COMPLETED, Reason.CALLER_HUNG_UP)
        assert len(await store.events(call.id)) == 1 + len(events)
    crowd = await store.create("outbound", "mia", "+1", "+2")
    await asyncio.gather(*(store.carrier_event(crowd.id, key, status) for key, status in events * 3))
    assert [event.seq for event in await store.events(crowd.id)] == list(range(1, 6))
    assert (await store.carrier_event(crowd.id, "9", "never heard of")).state == State.COMPLETED


async def test_nobody_s_calls_are_found(store: CallStore) -> None:
    """CMB-58: what reconciliation looks at."""
    waiting, over, held = await inbound(store), await inbound(store), await claimed(store)
    await store.advance(over.id, "canceled", reason="canceled")
    longer = dt.timedelta(hours=1)
    assert await store.orphans(longer) == ()
    assert {call.id for call in await store.orphans(dt.timedelta(0))} == {waiting.id, held.call.id}
    assert {call.id for call in await store.live()} == {waiting.id, held.call.id}
    assert [call.id for call in await store.recent(2)] == [held.call.id, over.id]


async def test_every_change_is_told_to_followers(store: CallStore, database_url: str) -> None:
    """CMB-19."""
    changes = follow(database_url)
    try:
        assert (await anext(changes)).kind == RESYNC
        call = await inbound(store)
        assert await anext(changes) == Change(call.id, "state", 1)
        await store.claim(call.id, await store.issue_ticket(call.id), "n", "h")
        assert [(await anext(changes)).kind for _ in range(2)] == ["ticket", "claimed"]
        await store.heard(call.id, 1, 1, "hello")
        assert await anext(changes) == Change(call.id, "turn", 1)
        seq = await store.signal(call.id, "hang_up", {"reason": "operator"})
        assert await anext(changes) == Change(call.id, "hang_up", seq)
        assert (await store.events(call.id, after=seq - 1))[0].data == {"reason": "operator"}
    finally:
        await changes.aclose()


async def test_a_follower_survives_the_loss_of_its_connection(
    store: CallStore, connections: asyncpg.Pool, database_url: str
) -> None:
    changes = follow(database_url)
    try:
        assert (await anext(changes)).kind == RESYNC
        killed = await connections.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where query ilike 'listen%' and datname = current_database()"
        )
        assert killed == 1
        assert (await anext(changes)).kind == RESYNC
        call = await inbound(store)
        assert await anext(changes) == Change(call.id, "state", 1)
    finally:
        await changes.aclose()


async def test_a_node_reports_and_is_forgotten(connections: asyncpg.Pool) -> None:
    nodes = NodeStore(connections)
    await nodes.register("node-1", "http://a", 10)
    assert await nodes.heartbeat("node-1", 10)
    await nodes.register("node-1", "http://a", 11)
    assert not await nodes.heartbeat("node-1", 10)
    assert [(node.name, node.pid) for node in await nodes.seen(dt.timedelta(minutes=1))] == [("node-1", 11)]
    await nodes.forget("node-1", 10)
    assert len(await nodes.seen(dt.timedelta(minutes=1))) == 1
    await nodes.forget("node-1", 11)
    assert await nodes.seen(dt.timedelta(minutes=1)) == ()
