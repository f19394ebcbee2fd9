"""What a live call can be told, apart from the call itself: who gives orders need not load what carries them out."""

from __future__ import annotations

from typing import ClassVar

from actors.runtime import Message


class HangUp(Message, tag="hang_up"):
    """End the call now, politely to the wire."""

    control: ClassVar[bool] = True
    reason: str


class Move(Message, tag="move"):
    """Let go of the call so that another host takes it: at the next quiet moment, at the latest after `within_s`."""

    control: ClassVar[bool] = True
    within_s: float


class LetGo(Message, tag="let_go"):
    """Somebody else holds the call; stop without writing anything."""

    control: ClassVar[bool] = True
