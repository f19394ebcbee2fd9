"""What a call host is told when it is forked."""

from __future__ import annotations

import msgspec


class HostArgs(msgspec.Struct, frozen=True):
    """What a host process is told when it is forked."""

    name: str
    node: str
    settings: bytes  # JSON, secrets included
    database: str
    intake: str
    turns: str
    keeper: str = "hosts"
