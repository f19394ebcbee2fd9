"""A call that comes in: whose it is, who pays for it, and what somebody hears who cannot be taken (COM-73).

A number of ours that is bound to a persona leads there. On the server's own number a caller whose number was proven
reaches the persona they keep first, at their own cost; anybody else meets the server's. Slot, then hold, as for calls
that we place; whatever fails has a state of its own and a sentence for the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from actors.placing import FROM_NUMBER, money_kind
from bots.crisis import fold
from bots.wishes import stops
from infra.database.call_records import Call
from infra.database.call_states import Reason
from infra.database.numbers import DIGEST
from infra.database.opt_outs import OptOuts
from infra.database.owned_calls import AlreadyOnCall, Caller, Line, OwnedCalls, Terms
from infra.database.personas import PersonaRow, PersonaStore, UnknownPersona
from infra.money import Money, MoneyError, PaymentsDown
from infra.settings import Settings
from infra.vault import Vault, VaultError

log = structlog.get_logger()
STOPPED = (
    "You asked us not to have calls with this number. "
    "If you want to talk to us again, please allow calls on your page. Goodbye."
)
NOT_KNOWN = "This number is for people who have an account with us. Please sign up first. Goodbye."
ON_CALL = "You are on another call with us already. Please hang up there first. Goodbye."
NO_FUNDS = "We could not set aside the money for this call. Please check your card on your page. Goodbye."
NO_PAYMENTS = "We cannot take payments just now. Nothing was charged. Please call again in a few minutes. Goodbye."
TEXTED_STOP = "Ringdown will not call this number any more. Text START to allow calls again."
TEXTED_START = "Ringdown may call this number again. Text STOP to end that."
STOP_WORDS = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "dur", "iptal", "중지", "그만"}
)
START_WORDS = frozenset({"start", "unstop", "basla", "시작"})
GONE = "The persona of this number is not there any more. Please choose another one on your page. Goodbye."


class Refusal(Exception):
    """The caller is not taken: why, and what they hear. Without words the call is refused unanswered."""

    def __init__(self, reason: Reason, say: str = "") -> None:
        super().__init__(say or reason)
        self.reason, self.say = reason, say


@dataclass(frozen=True, slots=True)
class Taken:
    """Who a call that comes in belongs to, and the persona they reach.

    Args:
        number_id: the caller's number, if it is a proven one of the payer's.
    """

    owner: str
    persona: PersonaRow
    number_id: str | None
    country: str
    zone: str
    language: str


@dataclass(frozen=True, slots=True)
class Answering:
    """Decides about calls that come in. Every method may be repeated, as carriers repeat their webhooks."""

    settings: Settings
    store: OwnedCalls
    money: Money
    personas: PersonaStore
    vault: Vault
    opt_outs: OptOuts

    async def who(self, caller: str, called: str) -> Taken | None:
        """Whose call it is; None: nobody's in particular, so the server's own persona answers.

        Raises:
            Refusal
        """
        line = await self.store.line(called)
        if line is None and called != self.settings.twilio.number:
            raise Refusal(Reason.REJECTED_NUMBER)
        digest = self.vault.digest(DIGEST, caller)
        if await self.opt_outs.stopped(digest):
            raise Refusal(Reason.REJECTED_CALLER, STOPPED)
        known = await self.store.caller(digest)
        if line is not None and line.payer == "owner":
            return await self._of_line(line, known)
        if known is None:
            if line is None:
                return None
            raise Refusal(Reason.REJECTED_CALLER, NOT_KNOWN)
        persona = line.persona_id if line is not None else await self.store.favourite(known.owner)
        owner = line.owner if line is not None else known.owner
        found = await self._persona(owner, persona or "")
        return Taken(known.owner, found, known.number_id, known.country, known.zone, known.language)

    async def seal(self, taken: Taken, caller: str) -> str:
        """The caller's number as it may be written down."""
        return await self.vault.seal(taken.owner, caller, FROM_NUMBER)

    async def take(self, call: Call, taken: Taken, caller: str) -> Call:
        """The call is the payer's from now on, and its money held. Its slot must be reserved.

        Raises:
            Refusal
        """
        if call.owner is None:
            call = await self._adopt(call, taken, caller)
        if call.hold_id is not None or call.owner is None or call.over:
            return call
        try:
            hold = await self.money.hold(call.owner, call.id, call.max_minutes or 1)
        except PaymentsDown as error:
            log.warning("call_not_held", call=call.id, error=str(error))
            raise Refusal(Reason.REJECTED_PAYMENTS, NO_PAYMENTS) from error
        except MoneyError as error:
            log.info("call_without_funds", call=call.id, kind=money_kind(error))
            raise Refusal(Reason.REJECTED_FUNDS, NO_FUNDS) from error
        return await self.store.note_hold(call.id, hold.id)

    async def texted(self, number: str, words: str) -> str:
        """Somebody sent a message to a number of ours; what they are answered, empty for nothing.

        The carrier may tell us twice: the last word about a number counts.
        """
        said, digest = fold(words), self.vault.digest(DIGEST, number)
        if said in STOP_WORDS or stops(said):
            await self.opt_outs.stop(digest, "sms")
            return TEXTED_STOP
        if said in START_WORDS:
            await self.opt_outs.start(digest, "sms")
            return TEXTED_START
        return ""

    async def _adopt(self, call: Call, taken: Taken, caller: str) -> Call:
        # A user's own persona is snapshotted under its owner, who is the line's where that pays for its callers.
        owner = taken.persona.owner or taken.owner
        try:
            persona = await self.personas.take(owner, taken.persona)
        except UnknownPersona:
            raise Refusal(Reason.REJECTED_PERSONA, GONE) from None
        terms = Terms(
            owner=taken.owner,
            persona_id=taken.persona.id,
            persona=persona,
            number_id=taken.number_id,
            max_minutes=taken.persona.max_minutes,
            options={"country": taken.country, "zone": taken.zone, "language": taken.language},
        )
        try:
            return await self.store.adopt(call.id, terms, await self.seal(taken, caller))
        except AlreadyOnCall:
            raise Refusal(Reason.REJECTED_ON_CALL, ON_CALL) from None

    async def _of_line(self, line: Line, known: Caller | None) -> Taken:
        payer = await self.store.payer(line.owner)
        if payer is None:
            raise Refusal(Reason.REJECTED_NUMBER)
        own = known if known is not None and known.owner == line.owner else None
        persona = await self._persona(line.owner, line.persona_id)
        return Taken(line.owner, persona, own.number_id if own else None, known.country if known else "", *payer)

    async def _persona(self, owner: str, persona_id: str) -> PersonaRow:
        try:
            return await self.personas.get(owner, persona_id)
        except (UnknownPersona, VaultError):
            raise Refusal(Reason.REJECTED_PERSONA, GONE) from None
