"""The operator's desk: the actor that `main.py ops` talks to through the node's private socket."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.journal import AWAY
from actors.runtime import Actor, Message, Refused
from infra.database.call_records import UnknownCall
from infra.telephony.carrier import CarrierError
from transports.http.operator_calls import call_view
from transports.switchboard import Switchboard


class ListCalls(Message, tag="list_calls"):
    """Ask for the calls that are live, or also for the last ended ones."""

    ended: bool = False


class Calls(Message, tag="calls"):
    """Calls as the API shows them."""

    calls: list[dict[str, Any]]


class EndCall(Message, tag="end_call"):
    """End a call for an operator."""

    call: str


class Ended(Message, tag="ended"):
    """The call is ending."""


class OperatorDesk(Actor):
    """Answers operators. Runs in the node's supervisor."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board

    async def receive(self, message: Message) -> Message | None:
        try:
            return await self._act(message)
        except (UnknownCall, CarrierError) as error:
            raise Refused(str(error)) from error
        except AWAY as error:  # an operator's question must not count as a crash of the node
            raise Refused("the database cannot be reached; try again shortly") from error

    async def _act(self, message: Message) -> Message | None:
        match message:
            case ListCalls(ended=ended):
                store, here = self._board.store, self._board.settings.node.name
                found = await (store.recent() if ended else store.live())
                calls = [call for call in found if call.node in {here, None}]  # what no node holds, every node shows
                return Calls([msgspec.to_builtins(call_view(call)) for call in calls])
            case EndCall(call=call):
                await self._board.hang_up(call, "operator")
                return Ended()
        return None
