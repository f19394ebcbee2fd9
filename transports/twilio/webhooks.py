"""Twilio's webhooks: the call is answered, its stream ended, its state changed, a machine picked up, a text came in.

Each one is verified against its signature, stored or guarded so that a repetition changes nothing, and answered at
once with the TwiML that follows from the call's state in the database.
https://www.twilio.com/docs/voice/twiml, https://www.twilio.com/docs/voice/api/call-resource#statuscallback
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog
from aiohttp import web

from actors.answering import Answering, Refusal, Taken
from actors.hosts import Full
from actors.orders import HangUp
from actors.runtime import ActorError
from infra.database.call_records import Call, CarrierSidTaken, IllegalTransition
from infra.database.call_states import Reason, outcome
from infra.database.pool import SERVER_AWAY
from infra.telephony.carrier import answered_by
from transports.handoff import HandoffRefused, hand_over
from transports.http.problems import Problem
from transports.switchboard import Switchboard
from transports.twilio.errors import TicketInvalid
from transports.twilio.signature import Signatures
from transports.twilio.twiml import hang_up, reject, say_and_hang_up, text_back

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.Response]]
NOT_NOW: tuple[type[Exception], ...] = (*SERVER_AWAY, ActorError)
HAND_OVER_SECONDS = 3.0
COME_BACK_TRIES = 30
NEW_CALL_TRIES = 4  # a caller whom nobody has answered yet is told soon that we cannot
HEARTBEAT_MISSED = dt.timedelta(seconds=4)  # a host reports its calls every second
ELSEWHERE_TRIES = 3  # for a new call to find a node that does not drain
APOLOGY = "We are sorry, all our lines are busy. Please call again in a moment. Goodbye."


class TwilioWebhooks:
    """The routes that Twilio calls.

    Args:
        answering: decides about callers; without, everybody meets the server's own persona.
    """

    def __init__(self, switchboard: Switchboard, signatures: Signatures, answering: Answering | None = None) -> None:
        self._board, self._signatures, self._answering = switchboard, signatures, answering
        self._store = switchboard.store

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/twilio/voice", self.patiently(self.voice, NEW_CALL_TRIES)),
            web.post("/twilio/answer/{call}", self.patiently(self.answer)),
            web.post("/twilio/resume/{call}", self.patiently(self.resume)),
            web.post("/twilio/status", self.status),
            web.post("/twilio/status/{call}", self.status),
            web.post("/twilio/machine/{call}", self.machine),
            web.post("/twilio/message", self.message),
            web.get("/twilio/media/{ticket}", self.media),
        ]

    def patiently(self, handler: Handler, most: int = COME_BACK_TRIES) -> Handler:
        """A call is not dropped because the database or the node restarts: it waits and asks again, `most` times."""

        async def handle(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except NOT_NOW as error:
                log.warning("webhook_waits", error=repr(error))
                return await self._come_back(request, most=most)

        return handle

    async def voice(self, request: web.Request) -> web.Response:
        """A caller dials our number."""
        form = await self._signatures.verify(request)
        sid, caller, called = form.get("CallSid", ""), form.get("From", ""), form.get("To", "")
        taken, refusal = await self._who(caller, called)
        known = await self._answering.seal(taken, caller) if taken and self._answering else caller
        call = await self._store.create("inbound", self._board.settings.calls.persona, known, called, carrier_sid=sid)
        structlog.contextvars.bind_contextvars(call=call.id)
        if call.over:
            return twiml(hang_up())
        if refusal is not None:
            return await self._turn_away(call, refusal)
        if (full := await self._board.admit(call)) is not None:
            if full.draining and tries(request) < ELSEWHERE_TRIES:
                return await self._come_back(request, draining=True)
            log.warning("call_refused", why=full.why)
            await self._refuse(call, "rejected_capacity")
            return twiml(say_and_hang_up(APOLOGY))
        if taken is not None and self._answering is not None:
            try:
                call = await self._answering.take(call, taken, caller)
            except Refusal as refused:
                await self._board.gone(call)
                return await self._turn_away(call, refused)
        return twiml(await self._board.connect(call))

    async def _who(self, caller: str, called: str) -> tuple[Taken | None, Refusal | None]:
        if self._answering is None:
            strange = called != self._board.settings.twilio.number
            return None, Refusal(Reason.REJECTED_NUMBER) if strange else None
        try:
            return await self._answering.who(caller, called), None
        except Refusal as refusal:
            return None, refusal

    async def _turn_away(self, call: Call, refusal: Refusal) -> web.Response:
        """End a call that is not taken, with a sentence where there is one."""
        log.info("caller_turned_away", reason=refusal.reason)
        await self._refuse(call, refusal.reason)
        return twiml(say_and_hang_up(refusal.say) if refusal.say else reject("rejected"))

    async def answer(self, request: web.Request) -> web.Response:
        """Somebody picked up a call that we placed."""
        form = await self._signatures.verify(request)
        call = await self._of(request, form)
        if call.over or call.state == "ending":
            return twiml(hang_up())
        return twiml(await self._board.connect(call))

    async def resume(self, request: web.Request) -> web.Response:
        """The stream has ended. If we did not end the call, it goes on at a live host."""
        form = await self._signatures.verify(request)
        call = await self._of(request, form)
        if form.get("CallStatus") in {"completed", "canceled", "failed", "busy", "no-answer"}:
            await self._store.carrier_event(call.id, f"resume:{call.ticket}", form["CallStatus"], fault=lost(call))
            return twiml(hang_up())
        if call.state == "ending" and call.ending_reason is not None:
            await self._finish(call)
        if call.over or call.state == "ending":
            return twiml(hang_up())
        if (full := await self._board.admit(call)) is not None:
            return await self._come_back(request, draining=full.draining)
        return twiml(await self._board.connect(call))

    async def status(self, request: web.Request) -> web.Response:
        """The carrier's state of a call has changed. Repetitions and any order are fine."""
        form = await self._signatures.verify(request)
        call = await self._of(request, form)
        status, sid = form.get("CallStatus", ""), form.get("CallSid", "")
        key = f"status:{sid}:{form.get('SequenceNumber', '')}:{status}"
        told = {"sid": sid} | seconds_of(form)
        after = await self._store.carrier_event(call.id, key, status, told, fault=lost(call))
        if after.over:
            await self._board.gone(after)
        return web.Response(status=204)

    async def machine(self, request: web.Request) -> web.Response:
        """Who picked up, as far as the carrier can tell. A machine is not talked to."""
        form = await self._signatures.verify(request)
        call = await self._of(request, form)
        who = answered_by(form.get("AnsweredBy", ""))
        await self._store.signal(call.id, "answered_by", {"who": who})
        if who in {"machine", "fax"}:
            try:
                await self._board.find(call.id).tell(HangUp("voicemail"))
            except ActorError:
                await self._board.hang_up(call.id, "voicemail")
        return web.Response(status=204)

    async def message(self, request: web.Request) -> web.Response:
        """A text message to a number of ours: STOP and START change the do-not-call list, anything else nothing."""
        form = await self._signatures.verify(request)
        answer = ""
        if self._answering is not None:
            answer = await self._answering.texted(form.get("From", ""), form.get("Body", ""))
        return twiml(text_back(answer))

    async def media(self, request: web.Request) -> web.StreamResponse:
        """The call's audio arrives: hand its socket to the host that runs the call."""
        await self._signatures.verify(request)
        token = request.match_info["ticket"]
        try:
            ticket = self._board.tickets.read(token)
        except TicketInvalid as error:
            raise Problem("ticket-invalid", "The media ticket is not ours or has expired.") from error
        placed = await self._board.claim_host(ticket.call_id, ticket.serial)
        if isinstance(placed, Full):
            log.warning("media_refused", call=ticket.call_id, why=placed.why)
            raise no_room(placed.retry_after)
        try:
            return await hand_over(request, Path(placed.intake), token.encode(), timeout=HAND_OVER_SECONDS)
        except HandoffRefused as error:
            log.warning("hand_over_refused", call=ticket.call_id, error=str(error))
            await self._board.unclaim_host(ticket.call_id, placed.host, ticket.serial)
            raise no_room(1) from error

    async def _come_back(
        self, request: web.Request, *, draining: bool = False, most: int = COME_BACK_TRIES
    ) -> web.Response:
        """Ask for the same again in a moment, for as long as a person would stay on a silent line.

        It comes by a new connection, which a proxy may bring to another node.
        """
        tried = tries(request)
        if tried >= most:
            return twiml(say_and_hang_up(APOLOGY))
        answer = twiml(await self._board.come_back(f"{request.path}?try={tried + 1}", draining=draining))
        answer.force_close()
        return answer

    async def _of(self, request: web.Request, form: Mapping[str, str]) -> Call:
        """The call a webhook speaks of: by the id in its path, else by the carrier's own id."""
        sid = form.get("CallSid", "")
        wanted = request.match_info.get("call")
        if wanted is None:
            found = await self._store.by_carrier_sid(sid)
            if found is None:
                raise Problem("call-not-found", "No call of ours has this CallSid.")
            structlog.contextvars.bind_contextvars(call=found.id)
            return found
        structlog.contextvars.bind_contextvars(call=wanted)
        call = await self._store.get(wanted)
        if sid and call.carrier_sid is None:  # the webhook overtook the reply to our own request, or it was lost
            return await self._store.bind_carrier_sid(call.id, sid)
        if sid and call.carrier_sid != sid:
            raise CarrierSidTaken(f"Call {call.id} is not the carrier's {sid}.")
        return call

    async def _finish(self, call: Call) -> None:
        try:
            assert call.ending_reason is not None
            state = outcome(call.ending_reason, answered=call.answered_at is not None)
            await self._store.advance(call.id, state, reason=call.ending_reason)
        except IllegalTransition:
            log.debug("call_was_over")
        await self._board.gone(call)

    async def _refuse(self, call: Call, reason: str) -> None:
        try:
            await self._store.advance(call.id, "rejected", reason=reason)
        except IllegalTransition:
            log.debug("call_was_over")


def twiml(document: str) -> web.Response:
    """TwiML as Twilio wants it."""
    return web.Response(text=document, content_type="text/xml")


def lost(call: Call) -> Reason | None:
    """Why a call that is over now did not end by anybody's wish: its media was away and had not come back."""
    if call.state != "in_progress":
        return None
    if call.host is None:
        return Reason.STREAM_LOST if call.epoch else None
    seen = call.media_seen_at
    return Reason.HOST_LOST if seen is not None and dt.datetime.now(dt.UTC) - seen > HEARTBEAT_MISSED else None


def seconds_of(form: Mapping[str, str]) -> dict[str, int]:
    """How long a call was connected, as the carrier measured it; our own clock hears of its end a moment later."""
    lasted = form.get("CallDuration", "")
    return {"seconds": int(lasted)} if lasted.isascii() and lasted.isdigit() else {}


def tries(request: web.Request) -> int:
    """How often this webhook has been asked to come back."""
    found = request.query.get("try", "")
    return int(found) if found.isascii() and found.isdigit() else 0


def no_room(retry_after: int) -> Problem:
    return Problem("no-capacity", "No host can take the call now.", {"Retry-After": str(retry_after)})
