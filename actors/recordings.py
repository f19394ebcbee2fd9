"""Recordings outlive the processes that made them: whoever finds a call ended keeps its recording."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from pathlib import Path

from bots.recording import assemble
from infra.database.call_records import ConsentMissing, UnknownCall
from infra.database.calls import CallStore


async def join_recording(call_id: str, folder: Path) -> Path | None:
    """Join the parts of an ended call's recording; None if there are none."""
    return await asyncio.to_thread(assemble, folder, folder.parent / f"{call_id}.wav")


async def keep_recording(store: CallStore, call_id: str, folder: Path) -> None:
    """Join the parts of an ended call's recording and note where it lies."""
    target = await join_recording(call_id, folder)
    if target is not None:
        await note_recording(store, call_id, target)


async def note_recording(store: CallStore, call_id: str, target: Path) -> None:
    """Note where an ended call's recording lies; one that nobody agreed to, or no longer, is deleted."""
    try:
        await store.recording(call_id, str(target))
    except ConsentMissing:
        target.unlink(missing_ok=True)


async def keep_left_over(store: CallStore, recordings: Path, quiet: dt.timedelta) -> None:
    """Keep the recordings of calls that ended, so long ago, without a host that could have kept them."""
    for folder in [path for path in recordings.glob("call_*") if path.is_dir()]:
        with contextlib.suppress(UnknownCall):  # the folder is shared with another database's node
            call = await store.get(folder.name)
            if call.ended_at is not None and dt.datetime.now(dt.UTC) - call.ended_at > quiet:
                await keep_recording(store, call.id, folder)
