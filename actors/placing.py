"""A paid call, from the wish to the ringing phone: gate, slot, row, hold, dial, in this order.

Nothing is dialled that is not paid for, nothing is held that could not be dialled. Whatever fails, the call gets the
state that is true, and its hold is let go. `now` does all of it; a scheduled call is `prepare`d minutes before it is
due and `dial`led when it is.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import structlog

from actors.hosts import Full, Release, Reserve
from actors.runtime import ActorError, Ref
from infra.compliance.gate import DOWN, Gate, Order, Stage
from infra.database.call_records import Call, IllegalTransition, UnknownCall
from infra.database.call_states import Reason, State
from infra.database.numbers import CONTEXT
from infra.database.owned_calls import AlreadyOnCall, OwnedCalls, Target, Terms
from infra.database.personas import PersonaRow, PersonaStore, UnknownPersona
from infra.ids import new_id
from infra.money import CardDeclined, CardNeedsAction, Money, MoneyError, NoPaymentMethod, PaymentsDown, SpendCapReached
from infra.settings import Settings
from infra.telephony.carrier import Carrier, CarrierBusy, CarrierDown, CarrierRefused, OutcomeUnknown, Placement
from infra.vault import Vault, VaultError

log = structlog.get_logger()
ASK_SECONDS = 2.0
GRACE_SECONDS = 60  # the carrier ends a call that we failed to end
TO_NUMBER, FROM_NUMBER = "calls.to_number", "calls.from_number"  # what the numbers of a call's row are sealed for
PASSING = frozenset({DOWN, "already-on-call"})  # refusals of the gate that a moment may mend
REFUSALS = {  # what becomes of a prepared call that the gate refuses
    "quiet-hours": Reason.REJECTED_QUIET_HOURS,
    "spend-cap": Reason.REJECTED_FUNDS,
    "no-payment-method": Reason.REJECTED_FUNDS,
    "already-on-call": Reason.REJECTED_ON_CALL,
    "opted-out": Reason.OPTED_OUT,
}
MESSAGES = {
    "unknown-persona": "There is no such persona, or it is not yours. GET /v1/personas lists those you can call with.",
    "number-not-verified": "You have no proven number yet. Add yours under Numbers and enter the code we send to it.",
    "no-capacity": "All lines are busy just now: {why}. Try again in a moment; nothing was charged.",
    "already-on-call": "You are on a call already. Hang up first.",
    "carrier-refused": "The phone network refused to call this number ({why}). Nothing was charged.",
    "carrier-busy": "The phone network asks us to slow down. Try again in a moment; nothing was charged.",
    "carrier-down": "The phone network cannot be reached. Try again in a moment; nothing was charged.",
    "number-unreadable": "This number cannot be read any more. Remove it under Numbers and add it again.",
}


class NotPlaced(Exception):
    """Nobody was dialled. `str()` is a sentence for the user that says what to do.

    `kind` is the stable name of the problem: one of the gate's (`quiet-hours`, ...), `unknown-persona`, `no-capacity`,
    `already-on-call`, `no-payment-method`, `card-declined`, `card-needs-action`, `spend-cap`, `payments-down`,
    `carrier-refused`, `carrier-busy`, `carrier-down`, `number-unreadable`. With `again`, the same may work in a moment,
    nothing is lost by trying, and a call that was prepared or is to be dialled still stands; else the call, if there
    was one, is over.
    """

    def __init__(
        self, kind: str, message: str = "", *, call: str | None = None, again: bool = False, after: int = 5
    ) -> None:
        super().__init__(message or MESSAGES[kind])
        self.kind, self.call, self.again, self.retry_after = kind, call, again, after


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to call, with which persona, as far as the user's choices are valid."""

    target: Target
    number_id: str
    number: str
    persona: PersonaRow
    minutes: int
    outside_hours: bool


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
    gate: Gate
    money: Money
    personas: PersonaStore
    vault: Vault

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
        key = key or new_id("call")
        wanted = await self._wanted(owner, persona_id, number_id, max_minutes, outside_hours)
        await self._pass_gate(self._order("dial", owner, wanted, key, scheduled_id))
        await self._reserve(key)
        try:
            call = await self._open(owner, wanted, key, scheduled_id)
            if call.state is not State.AUTHORISING:
                return call
            await self._hold(call)
            return await self._dial(call, wanted.number)
        except AlreadyOnCall:
            await self._free(key)
            raise NotPlaced("already-on-call") from None
        except NotPlaced as failure:
            if failure.again:
                reason = Reason.REJECTED_PAYMENTS if failure.kind == "payments-down" else Reason.CARRIER_ERROR
                await self._give_up(key, reason)
            raise
        except Exception:  # the database went away, or a mistake of ours; what cannot be ended now the reconciler ends
            with contextlib.suppress(Exception):
                await self._give_up(key, Reason.HOST_LOST)
            await self._free(key)
            raise

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
        try:
            wanted = await self._wanted(owner, persona_id, number_id, max_minutes, outside_hours)
            await self._pass_gate(self._order("hold", owner, wanted, key, scheduled_id))
            call = await self._open(owner, wanted, key, scheduled_id)
        except AlreadyOnCall:
            raise NotPlaced("already-on-call", again=True) from None
        except NotPlaced as refusal:
            if not refusal.again:  # an earlier try may have got further
                with contextlib.suppress(UnknownCall):
                    await self._give_up(key, REFUSALS.get(refusal.kind, Reason.REJECTED_NUMBER))
            raise
        return call if call.state is not State.AUTHORISING else await self._hold(call)

    async def dial(self, call_id: str, *, again: bool = False) -> Call:
        """Dial a call that was prepared, once, whoever else tries; one that was dialled or is over is left as it is.

        The gate is asked again: what was allowed when the money was held may not be any more. `again`: whoever began to
        dial may have died in it (its lease is over), or was told by the carrier to come back, so the carrier's list is
        asked before anything is dialled.

        Raises:
            NotPlaced: with `again` (`no-capacity`, `already-on-call`, `carrier-busy`, `carrier-down`, `gate-down`) the
                call still stands: dial it in a moment with `again`, here or on another node, or `abandon` it; without,
                it is over.
            UnknownCall
        """
        call = await self.store.get(call_id)
        redial = again and call.state is State.DIALING and call.carrier_sid is None
        owner = call.owner
        if owner is None or not (call.state is State.AUTHORISING or redial):
            return call
        number = await self._number(call)
        if redial:
            return await self._redial(call, number)
        if call.hold_id is None:
            call = await self._hold(call)
        order = Order(
            owner=owner, number_id=call.number_id or "", max_minutes=call.max_minutes or 1, call_id=call.id,
            scheduled_id=call.scheduled_id, outside_hours=bool(call.options.get("outside_hours")),
        )  # fmt: skip
        await self._pass_gate(order, call)
        await self._reserve(call.id)
        try:
            return await self._dial(call, number)
        except AlreadyOnCall:
            await self._free(call.id)
            raise NotPlaced("already-on-call", call=call.id, again=True) from None

    async def abandon(self, call_id: str, reason: str = "canceled") -> Call:
        """A prepared call will not be dialled after all: it ends for `reason`, and its hold is released.

        A call that was dialled meanwhile is left alone; its state tells. One that was never written down is none.

        Raises:
            UnknownCall
        """
        return await self._give_up(call_id, Reason(reason))

    # -- the steps

    async def _wanted(
        self, owner: str, persona_id: str | None, number_id: str | None, max_minutes: int, outside_hours: bool
    ) -> Wanted:
        target = await self.store.target(owner, number_id)
        if target is None or (target.number_id is None and number_id is None):
            raise NotPlaced("number-not-verified")
        chosen = persona_id or await self.store.favourite(owner)
        try:
            persona = await self.personas.get(owner, chosen or "")
        except (UnknownPersona, VaultError):
            raise NotPlaced("unknown-persona") from None
        number = ""
        if target.sealed is not None:  # else the gate says that it is not theirs
            try:
                number = await self.vault.unseal(owner, target.sealed, CONTEXT)
            except VaultError:
                raise NotPlaced("number-unreadable") from None
        minutes = min(max_minutes, persona.max_minutes)
        return Wanted(target, target.number_id or number_id or "", number, persona, minutes, outside_hours)

    def _order(self, stage: Stage, owner: str, wanted: Wanted, key: str, scheduled_id: str | None) -> Order:
        return Order(
            owner=owner, number_id=wanted.number_id, max_minutes=wanted.minutes, stage=stage, call_id=key,
            scheduled_id=scheduled_id, outside_hours=wanted.outside_hours,
        )  # fmt: skip

    async def _pass_gate(self, order: Order, call: Call | None = None) -> None:
        decision = await self.gate.check(order)
        if decision.allowed:
            return
        code = decision.code or DOWN
        if call is not None and code not in PASSING:
            await self._give_up(call.id, REFUSALS.get(code, Reason.REJECTED_NUMBER))
        raise NotPlaced(code, decision.message, call=call.id if call else None, again=code in PASSING)

    async def _reserve(self, call_id: str) -> None:
        try:
            answer = await self.keeper.ask(Reserve(call_id), timeout=ASK_SECONDS)
        except ActorError as error:
            log.warning("keeper_silent", error=str(error))
            answer = Full("this node does not answer")
        if isinstance(answer, Full):
            message = MESSAGES["no-capacity"].format(why=answer.why)
            raise NotPlaced("no-capacity", message, call=call_id, again=True, after=answer.retry_after)

    async def _open(self, owner: str, wanted: Wanted, key: str, scheduled_id: str | None) -> Call:
        try:
            persona = await self.personas.take(owner, wanted.persona)
        except UnknownPersona:
            raise NotPlaced("unknown-persona") from None
        target = wanted.target
        terms = Terms(
            owner=owner,
            persona_id=wanted.persona.id,
            persona=persona,
            number_id=wanted.number_id,
            max_minutes=wanted.minutes,
            options={
                "country": target.country or "",
                "zone": target.zone,
                "language": target.language,
                "outside_hours": wanted.outside_hours,
            },
            scheduled_id=scheduled_id,
        )
        sealed = await self.vault.seal(owner, wanted.number, TO_NUMBER)
        return await self.store.open(key, terms, self.settings.twilio.number, sealed)

    async def _hold(self, call: Call) -> Call:
        """The call with its money held, or over."""
        assert call.owner is not None
        try:
            hold = await self.money.hold(call.owner, call.id, call.max_minutes or 1)
        except PaymentsDown as error:
            raise NotPlaced("payments-down", str(error), call=call.id, again=True) from error
        except MoneyError as error:
            await self._give_up(call.id, Reason.REJECTED_FUNDS)
            raise NotPlaced(money_kind(error), str(error), call=call.id) from error
        return await self.store.note_hold(call.id, hold.id)

    async def _dial(self, call: Call, number: str) -> Call:
        try:
            call = await self.store.dialing(call.id)
        except IllegalTransition as late:
            return late.call
        return await self._place(call, number)

    async def _redial(self, call: Call, number: str) -> Call:
        """Somebody began to dial and did not say how it went: the carrier's list knows."""
        try:
            for found in await self.carrier.list(number, call.dialed_at or call.created_at):
                if await self.store.by_carrier_sid(found.sid) is None:
                    return await self.store.bind_carrier_sid(call.id, found.sid)
        except CarrierDown as error:
            raise self._carrier_away(call, error) from error
        await self._reserve(call.id)
        return await self._place(call, number)

    async def _place(self, call: Call, number: str) -> Call:
        limit = (call.max_minutes or 1) * 60 + GRACE_SECONDS
        try:
            placed = await self.carrier.place(placement(self.settings, call.id, number, call.from_number, limit))
        except OutcomeUnknown as unknown:
            # It may be ringing. The carrier's list is asked before anybody dials again.
            log.warning("dial_outcome_unknown", call=call.id, error=str(unknown))
            return await self.store.get(call.id)
        except CarrierDown as error:
            raise self._carrier_away(call, error) from error
        except CarrierRefused as error:
            with contextlib.suppress(IllegalTransition):
                await self.store.advance(call.id, State.FAILED, reason=Reason.CARRIER_ERROR, data={"why": str(error)})
            await self._let_go(call)
            message = MESSAGES["carrier-refused"].format(why=str(error).rstrip("."))
            raise NotPlaced("carrier-refused", message, call=call.id) from error
        return await self.store.bind_carrier_sid(call.id, placed.sid)

    def _carrier_away(self, call: Call, error: CarrierDown) -> NotPlaced:
        log.warning("carrier_away", call=call.id, error=str(error))
        if isinstance(error, CarrierBusy):
            return NotPlaced("carrier-busy", call=call.id, again=True, after=round(error.retry_after or 1))
        return NotPlaced("carrier-down", call=call.id, again=True)

    async def _number(self, call: Call) -> str:
        try:
            return await number_of(self.vault, call)
        except VaultError:
            await self._give_up(call.id, Reason.CANCELED)
            raise NotPlaced("number-unreadable", call=call.id) from None

    async def _give_up(self, call_id: str, reason: Reason) -> Call:
        call = await self.store.withdraw(call_id, reason)
        if call.state is State.DIALING and call.carrier_sid is None and reason is Reason.CARRIER_ERROR:
            with contextlib.suppress(IllegalTransition):  # the carrier said that it did nothing
                call = await self.store.advance(call_id, State.FAILED, reason=reason)
        if call.over:
            await self._let_go(call)
        return call

    async def _let_go(self, call: Call) -> None:
        """The call is over: its slot and its money are free. What fails here, the settler does."""
        await self._free(call.id)
        hold = call.hold_id
        try:
            if hold is None and (found := await self.money.hold_of(call.id)) is not None:
                hold = found.id
            if hold is not None:
                await self.money.release(hold, call.ended_reason or "canceled")
        except MoneyError as error:
            log.warning("hold_not_released", call=call.id, error=str(error))

    async def _free(self, call_id: str) -> None:
        with contextlib.suppress(ActorError):
            await self.keeper.tell(Release(call_id))


def placement(settings: Settings, call_id: str, to: str, from_number: str, limit_seconds: int) -> Placement:
    """What the carrier is asked for."""
    public = settings.public_url
    return Placement(
        to=to,
        from_number=from_number,
        answer_url=f"{public}/twilio/answer/{call_id}",
        status_url=f"{public}/twilio/status/{call_id}",
        machine_url=f"{public}/twilio/machine/{call_id}",
        time_limit_s=limit_seconds,
        key=call_id,
    )


async def number_of(vault: Vault, call: Call) -> str:
    """The number that a call goes to, readable.

    Raises:
        VaultError: its owner's key is gone, or it was not sealed for this place.
    """
    return call.to_number if call.owner is None else await vault.unseal(call.owner, call.to_number, TO_NUMBER)


def money_kind(error: MoneyError) -> str:
    """The stable name of what went wrong with the money."""
    match error:
        case NoPaymentMethod():
            return "no-payment-method"
        case CardNeedsAction():
            return "card-needs-action"
        case CardDeclined():
            return "card-declined"
        case SpendCapReached():
            return "spend-cap"
        case PaymentsDown():
            return "payments-down"
    return "card-declined"
