"""Recordings that lie on this node and belong to nobody any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from infra.settings import Settings


async def forget_recordings(settings: Settings, paths: Iterable[str]) -> int:
    """Delete those that lie on this node, in NODE_VAR; how many. Elsewhere nobody can read them without their key."""
    return await asyncio.to_thread(_delete, settings.node.var.resolve(), list(paths))


def _delete(var: Path, paths: list[str]) -> int:
    gone = 0
    for path in (Path(text).resolve() for text in paths):
        if path.is_relative_to(var) and path.is_file():
            path.unlink(missing_ok=True)
            gone += 1
    return gone
