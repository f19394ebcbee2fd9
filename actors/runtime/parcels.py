"""A message under way: as an object, as bytes, or both, converted only when somebody needs the other form."""

from __future__ import annotations

from actors.runtime.messages import Message, decode, encode


class Parcel:
    """Relays pass it on without opening it, so they need not know the types of what they carry."""

    __slots__ = ("_message", "_wire")

    def __init__(self, message: Message | None, wire: tuple[str, bytes] | None) -> None:
        self._message = message
        self._wire = wire

    @classmethod
    def of(cls, message: Message) -> Parcel:
        return cls(message, None)

    @classmethod
    def from_wire(cls, tag: str, body: bytes) -> Parcel:
        return cls(None, (tag, body))

    def message(self) -> Message:
        """The message itself; `UnknownMessage` if this process cannot read it."""
        if self._message is None:
            assert self._wire is not None
            self._message = decode(*self._wire)
        return self._message

    def wire(self) -> tuple[str, bytes]:
        """Tag and body; `UnknownMessage` if it cannot be written."""
        if self._wire is None:
            assert self._message is not None
            self._wire = encode(self._message)
        return self._wire
