"""Ids that sort by the time they were made: a readable prefix and a UUIDv7 (RFC 9562 section 5.7)."""

from __future__ import annotations

import os
import time
import uuid

_RANDOM_BITS = 74


def uuid7(unix_ms: int | None = None) -> uuid.UUID:
    """A UUIDv7 of now, or of the moment `unix_ms`: 48 bits of milliseconds, then 74 random bits."""
    moment = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    random = int.from_bytes(os.urandom(10)) & ((1 << _RANDOM_BITS) - 1)
    above, below = random >> 62, random & ((1 << 62) - 1)
    return uuid.UUID(int=(moment & ((1 << 48) - 1)) << 80 | 0x7 << 76 | above << 64 | 0b10 << 62 | below)


def new_id(prefix: str) -> str:
    """A fresh id such as `call_0192f0c1…`."""
    return f"{prefix}_{uuid7().hex}"
