"""What a call that is over costs, and what becomes of its words: one settlement, then one archive.

Both may be repeated at any point: the money follows its hold's own steps, the archive ends with a note that it is done.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from pathlib import Path

import structlog

from actors.words import Words
from infra.database.call_records import UnknownCall
from infra.database.call_states import FAULTS
from infra.database.owned_calls import OwnedCalls, Unarchived, Unsettled
from infra.database.passages import Passages, Said
from infra.money import Hold, Money, MoneyError
from infra.money.meter import Meter
from infra.vault import KeyDestroyed, Vault

log = structlog.get_logger()
MINUTE = 60
RECORDING = "calls.recording"  # what a recording is sealed for
SEALED = ".sealed"
UNCHARGED = frozenset({"busy", "no_answer", "voicemail", "canceled", "rejected"})
"""Ends of calls in which nobody was talked to."""


def billable_seconds(state: str, reason: str, connected_seconds: float | None) -> tuple[float, bool]:
    """For how many seconds a call is charged, and whether it ended by our fault.

    A minute in which we failed is not charged; `Money` charges nothing at all where that was the first one.
    """
    connected = connected_seconds or 0.0
    if state in UNCHARGED or connected <= 0:
        return 0.0, False
    fault = state == "failed" or reason in FAULTS
    if fault and connected >= MINUTE:
        connected = math.floor(connected / MINUTE) * MINUTE
    return float(connected), fault


class Settling:
    """Settles calls."""

    def __init__(self, store: OwnedCalls, money: Money) -> None:
        self._store, self._money = store, money

    async def settle(self, call: Unsettled) -> Hold | None:
        """Capture what the call cost, or release what was held; None where nothing was.

        Raises:
            MoneyError: not done yet; ask again later.
        """
        seconds, fault = billable_seconds(call.state, call.ended_reason, call.connected_seconds)
        hold: Hold | None = None
        if call.hold_id is not None:
            if seconds > 0:
                hold = await self._money.settle(call.hold_id, seconds, fault)
            else:
                hold = await self._money.release(call.hold_id, call.ended_reason)
            if not hold.over:
                raise MoneyError(f"Hold {hold.id} is {hold.state}.", code="not_over")
        paid = hold.captured_usd_micros - hold.refunded_usd_micros if hold is not None else 0
        if await self._store.settled(call.id, {"seconds": round(seconds, 3), "usd_micros": paid, "fault": fault}):
            log.info("call_settled", call=call.id, seconds=round(seconds, 1), usd_micros=paid, fault=fault)
        return hold


class Archive:
    """Keeps or deletes what was said.

    Args:
        recordings: where this node's recordings lie.
        meter: notes what a call cost us, while its turns are there to be counted.
    """

    def __init__(
        self, store: OwnedCalls, vault: Vault, passages: Passages, recordings: Path, meter: Meter | None = None
    ) -> None:
        self._store, self._vault, self._passages, self._recordings = store, vault, passages, recordings
        self._meter = meter
        self._not_ours: set[str] = set()

    async def archive(self, call: Unarchived) -> None:
        """With consent the turns stay, sealed, and can be searched; without they are deleted.

        Raises:
            EmbeddingError: ask again later.
        """
        if self._meter is not None:
            await self._meter.note(call.id)
        if call.transcript_consent:
            try:
                await self._passages.add(call.owner, call.id, await self._said(call))
            except KeyDestroyed:  # the owner is gone, and with them every word
                log.info("archive_of_nobody", call=call.id)
        await self._store.archived(call.id, keep=call.transcript_consent)

    async def seal_recordings(self) -> int:
        """Seal this node's recordings of calls that are over, and delete the readable file; returns how many."""
        done = 0
        for path in sorted(self._recordings.glob("call_*.wav")):
            if path.stem not in self._not_ours:
                done += await self._seal(path)
        return done

    async def _said(self, call: Unarchived) -> list[Said]:
        turns = await Words(self._vault, call.owner).read(await self._store.turns(call.id))
        heard = [(turn, turn.text if turn.who == "caller" else turn.spoken) for turn in turns]
        return [Said(number=turn.number, who=turn.who, at=turn.at, text=text) for turn, text in heard if text]

    async def _seal(self, path: Path) -> bool:
        try:
            call = await self._store.get(path.stem)
        except UnknownCall:
            self._not_ours.add(path.stem)  # of another database's node, in the same folder
            return False
        if call.owner is None:
            self._not_ours.add(path.stem)
            return False
        if not call.over or call.recording_path is None:
            return False
        target = path.with_suffix(SEALED)
        try:
            plain = await asyncio.to_thread(path.read_bytes)
            sealed = await self._vault.seal_bytes(call.owner, plain, RECORDING)
        except KeyDestroyed:
            path.unlink(missing_ok=True)
            return False
        await asyncio.to_thread(target.write_bytes, sealed)
        if not await self._store.keep_recording(call.id, str(target)):
            target.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return True


async def play(vault: Vault, owner: str, path: Path) -> bytes:
    """A sealed recording as a WAV file.

    Raises:
        VaultError: it is not sealed, not the owner's, or their key is gone.
        OSError: the file is not here.
    """
    return await vault.unseal_bytes(owner, await asyncio.to_thread(path.read_bytes), RECORDING)


def waited(attempts: int) -> dt.timedelta:
    """How long to wait before what failed so often is tried again."""
    return dt.timedelta(seconds=min(3.0 * 2**attempts, 60.0))
