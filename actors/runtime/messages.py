"""Messages: frozen, tagged records, and the registry that turns bytes back into them."""

from __future__ import annotations

from typing import Any, ClassVar, Final, dataclass_transform

import msgspec

from actors.runtime.errors import UnknownMessage

BODY_BYTES_MAX: Final = 1 << 20


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, tag=True, tag_field="type"):
    """What actors say to each other. Subclass with a tag: `class HangUp(Message, tag="hang_up")`.

    Set `control: ClassVar[bool] = True` for messages that overtake ordinary ones.
    """

    control: ClassVar[bool] = False


class Down(Message, tag="runtime.down"):
    """The watched actor has ended. Comes exactly once for each watch.

    `reason` is text for people and logs; `crashed` is False for a normal end or an ordered stop.
    """

    control: ClassVar[bool] = True
    address: str
    reason: str
    crashed: bool = False


class Inspect(Message, tag="runtime.inspect"):
    """Ask a system (actor `system/NAME`) what lives in it, or with `everywhere` on the whole node."""

    control: ClassVar[bool] = True
    everywhere: bool = False


class Halt(Message, tag="runtime.halt"):
    """Ask a system to stop one of its actors by name, in order."""

    control: ClassVar[bool] = True
    address: str
    reason: str = "halted by an operator"


class Done(Message, tag="runtime.done"):
    """It is done; there is nothing to add."""


_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}
_encoder = msgspec.msgpack.Encoder()


def tag_of(kind: type[Message]) -> str:
    """The name of a message type on the wire."""
    return str(kind.__struct_config__.tag)


def encode(message: Message) -> tuple[str, bytes]:
    """Tag and msgpack body of a message. `UnknownMessage` when msgpack cannot, or over 1 MiB."""
    tag = tag_of(type(message))
    try:
        body = _encoder.encode(message)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnknownMessage(f"{tag} cannot be written ({error})") from error
    if len(body) > BODY_BYTES_MAX:
        raise UnknownMessage(f"{tag} is {len(body)} bytes, the limit is {BODY_BYTES_MAX}")
    return tag, body


def decode(tag: str, body: bytes) -> Message:
    """The message in `body`. `UnknownMessage` when no imported type bears the tag or fits the body."""
    decoder = _decoders.get(tag)
    if decoder is None:
        _learn_types()
        decoder = _decoders.get(tag)
    if decoder is None:
        raise UnknownMessage(f"tag {tag!r}")
    try:
        message = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise UnknownMessage(f"tag {tag!r} with a body that does not fit ({error})") from error
    assert isinstance(message, Message)
    return message


def _learn_types() -> None:
    found: dict[str, type[Message]] = {}
    waiting: list[type[Message]] = [Message]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        tag = tag_of(kind)
        other = found.setdefault(tag, kind)
        if other is not kind and (other.__module__, other.__qualname__) != (
            kind.__module__,
            kind.__qualname__,
        ):
            raise UnknownMessage(f"tag {tag!r} belongs to {other.__qualname__} and to {kind.__qualname__}")
    _decoders.clear()
    _decoders.update({tag: msgspec.msgpack.Decoder(kind) for tag, kind in found.items()})
