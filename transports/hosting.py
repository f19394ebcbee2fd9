"""What a call host is told: when it is forked, and with each socket it is handed."""

from __future__ import annotations

import msgspec


class Grant(msgspec.Struct, frozen=True):
    """What a gateway sends along with a socket: the ticket it has verified."""

    token: str

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Grant:
        return msgspec.msgpack.decode(data, type=cls)


class HostArgs(msgspec.Struct, frozen=True):
    """What a host process is told when it is forked."""

    name: str
    node: str
    settings: bytes  # JSON, secrets included
    database: str
    intake: str
    turns: str
    keeper: str = "hosts"
