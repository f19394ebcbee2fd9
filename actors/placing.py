"""A paid call, from the wish to the ringing phone: gate, slot, row, hold, dial, in this order.

Nothing is dialled that is not paid for, nothing is held that could not be dialled. Whatever fails, the call gets the
state that is true, and its hold is let go. `now` does all of it; a scheduled call is `prepare`d minutes before it is
due and `dial`led when it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.runtime import Ref
from infra.database.call_records import Call
from infra.database.owned_calls import OwnedCalls
from infra.settings import Settings
from infra.telephony.carrier import Carrier


class NotPlaced(Exception):
    """Nobody was dialled. `str()` is a sentence for the user that says what to do.

    `kind` is the stable name of the problem: one of the gate's (`quiet-hours`, ...), `unknown-persona`, `no-capacity`,
    `already-on-call`, `no-payment-method`, `card-declined`, `card-needs-action`, `spend-cap`, `payments-down`,
    `carrier-refused`, `carrier-busy`, `carrier-down`. With `again`, the same may work in a moment, nothing is lost by
    trying, and a call that was prepared or is to be dialled still stands; else the call, if there was one, is over.
    """

    def __init__(
        self, kind: str, message: str, *, call: str | None = None, again: bool = False, after: int = 5
    ) -> None:
        super().__init__(message)
        self.kind, self.call, self.again, self.retry_after = kind, call, again, after


@dataclass(frozen=True, slots=True)
class Placing:
    """Places calls that their owners pay for. Used by the gateway ("now") and by the scheduler ("due").

    Every method may be repeated after a crash or a lost answer: calls are found by their `key`, holds by their call,
    dials by the carrier's list.
    """

    settings: Settings
    store: OwnedCalls
    carrier: Carrier
    keeper: Ref

    async def now(
        self,
        owner: str,
        persona_id: str | None,
        number_id: str | None,
        max_minutes: int,
        *,
        scheduled_id: str | None = None,
        key: str = "",
        outside_hours: bool = False,
    ) -> Call:
        """Have a user's own number called at once; returns the call, which is dialing.

        No `persona_id` is the first of the user's contacts, no `number_id` their primary number; `key` is the id that
        the call is to have, for whoever must know it before.

        Raises:
            NotPlaced: with or without `again`, no call of this order is left standing.
        """
        raise NotImplementedError

    async def prepare(
        self,
        owner: str,
        persona_id: str | None,
        number_id: str | None,
        max_minutes: int,
        *,
        scheduled_id: str | None = None,
        key: str,
        outside_hours: bool = False,
    ) -> Call:
        """Pass the gate, write the call down and hold its money, minutes before it is due.

        `key` is the id that the call is to have, `infra.ids.new_id("call")`, one for each attempt: the same key is the
        same call, wherever its preparation stopped. The call returned is `authorising`, with its `hold_id`.

        Raises:
            NotPlaced: with `again` (`payments-down`, `gate-down`) prepare it again with the same key, or `abandon` it;
                without, the call is over (`rejected`) and its hold released.
        """
        raise NotImplementedError

    async def dial(self, call_id: str, *, again: bool = False) -> Call:
        """Dial a call that was prepared, once, whoever else tries; one that was dialled or is over is left as it is.

        The gate is asked again: what was allowed when the money was held may not be any more. `again`: whoever began to
        dial may have died in it (its lease is over), so the carrier's list is asked before anything is dialled.

        Raises:
            NotPlaced: with `again` (`no-capacity`, `already-on-call`, `carrier-busy`, `carrier-down`, `gate-down`) the
                call still stands: dial it in a moment, here or on another node, or `abandon` it; without, it is over.
        """
        raise NotImplementedError

    async def abandon(self, call_id: str, reason: str = "canceled") -> Call:
        """A prepared call will not be dialled after all: it ends for `reason`, and its hold is released.

        A call that was dialled meanwhile is left alone; its state tells.
        """
        raise NotImplementedError
