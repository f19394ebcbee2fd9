"""Recordings outlive the processes that made them: whoever finds a call ended keeps its recording."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bots.recording import assemble
from infra.database.calls import CallStore


async def keep_recording(store: CallStore, call_id: str, folder: Path) -> None:
    """Join the parts of an ended call's recording and note where it lies."""
    target = folder.parent / f"{call_id}.wav"
    if await asyncio.to_thread(assemble, folder, target):
        await store.recording(call_id, str(target))
