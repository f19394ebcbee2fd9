"""A call: one actor from the arrival of its media to the end of its turn in this process.

The call itself outlives the actor. Everything it must remember is in the database before it matters, so when the
process dies another one claims the next epoch and goes on (docs/architecture.md, "A call outlives its process").
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from actors.journal import CallJournal
from actors.orders import HangUp, LetGo, Move
from actors.owners import Owners
from actors.recordings import join_recording, note_recording
from actors.runtime import Actor, Message
from actors.words import Words
from bots.conversation import Conversation, Engines, Line, Outside
from bots.cues import Cue
from bots.dialogue import Patience
from bots.house import Facts
from bots.meter import Meter
from bots.personas.persona import Persona
from bots.record import Record, Turn
from bots.recording import Recorder
from infra.database.call_records import Claim, IllegalTransition
from infra.database.calls import CallStore
from infra.settings import Settings

log = structlog.get_logger()
FLUSH_SECONDS = 2.0  # for the journal when the call is handed over
SETTLE_SECONDS = 60.0  # for the journal and the last state when the call is over
MOVE_POLL_SECONDS = 0.05
HANDED_OVER = frozenset({"moved", "stream_lost", "superseded"})  # the call goes on without us


@dataclass(frozen=True, slots=True)
class Desk:
    """What every call of a host shares."""

    store: CallStore
    settings: Settings
    engines: Callable[[str, str | Persona, Mapping[str, Any], Record, Facts], Engines]
    recordings: Path
    owners: Owners | None = None  # for calls of users, and for callers who want no more calls


class CallActor(Actor):
    """Holds one call at one epoch.

    Args:
        claim: the call and what was said so far; `claim.call.epoch` is ours.
        line: the caller's media.
        desk: what the host's calls share.
    """

    def __init__(self, claim: Claim, line: Line, desk: Desk) -> None:
        self._call, self._line, self._desk = claim.call, line, desk
        self._claim = claim
        self._settled = False
        self._reason = ""
        self._conversation: Conversation | None = None
        self._moving = False
        self._crashed = False

    async def start(self) -> None:
        structlog.contextvars.bind_contextvars(call=self._call.id, epoch=self._call.epoch)
        store, call = self._desk.store, self._call
        self._words = Words() if self._desk.owners is None else self._desk.owners.words(call)
        self._journal = CallJournal(store, call.id, call.epoch, lambda: self._end("superseded"), words=self._words)
        self.context.run(self._journal.run())
        self.context.run(self._guarded())

    async def receive(self, message: Message) -> Message | None:
        match message:
            case HangUp(reason=reason):
                self._end(reason, graceful=True)
            case LetGo():
                self._end("superseded")
            case Move(within_s=within) if not self._moving:
                self._moving = True
                self.context.run(self._move(within))
        return None

    async def stop(self, reason: str) -> None:
        """What was not settled is settled as what it is: our fault ends the call, the end of our host moves it."""
        if self._settled:
            return
        if self._crashed:
            log.error("call_crashed", reason=reason)
            await self._settle("pipeline_error")
            await self._keep_recording()
        else:
            await self._settle("moved")

    def snapshot(self) -> dict[str, Any]:
        live = self._conversation.status() if self._conversation else {}
        return {"call": self._call.id, "epoch": self._call.epoch, "moving": self._moving} | live

    async def _guarded(self) -> None:
        try:
            await self._live()
        except Exception:
            self._crashed = True
            raise

    async def _live(self) -> None:
        call, settings = self._call, self._desk.settings
        turns = [
            Turn(t.number, "caller" if t.who == "caller" else "bot", t.text, t.spoken, t.done, dict(t.timings))
            for t in await self._words.read(self._claim.turns)
        ]
        record = Record(self._journal, turns, call.flow)
        recorder = Recorder(self._folder, call.epoch)
        self._conversation = Conversation(
            self._line,
            self._desk.engines(call.id, await self._persona(), call.options, record, await self._facts()),
            record,
            recorder,
            Patience(idle=settings.calls.idle_seconds),
            self._limit(),
            Outside(self._opted_out, self._referred, self._book if call.owner else None),
        )
        if self._reason:  # told to end before there was a conversation
            self._conversation.end(self._reason)
        self._journal_state()
        if call.recording_consent:
            recorder.start()
        reason = await self._conversation.run(self._cue(), self._settle)
        log.info("conversation_ended", reason=reason, turns=len(record.turns))
        if reason not in HANDED_OVER:
            await self._keep_recording()
        self.context.stop(reason)

    async def _persona(self) -> str | Persona:
        owners = self._desk.owners
        return self._call.persona if owners is None else await owners.persona(self._call)

    async def _facts(self) -> Facts:
        owners = self._desk.owners
        if owners is None:
            return Facts()
        zone = str(self._call.options.get("zone") or "UTC") if self._call.owner else None
        return Facts(await owners.country(self._call), zone)

    def _limit(self) -> float | Meter:
        """A paid call ends with what is held for it, counted from the answer, through whichever hosts it went."""
        call = self._call
        if call.max_minutes is None:
            return self._desk.settings.calls.limit_seconds
        return Meter.paid(call.max_minutes, call.answered_at, dt.datetime.now(dt.UTC))

    def _opted_out(self, channel: str) -> None:
        if (owners := self._desk.owners) is not None:
            self.context.run(self._journal.write(lambda: owners.opted_out(self._call, channel)))  # type: ignore[arg-type]

    def _referred(self) -> None:
        owners, language = self._desk.owners, str(self._call.options.get("language") or "en")
        if owners is not None:
            self.context.run(self._journal.write(lambda: owners.referred(self._call, language)))

    async def _book(self, local: dt.datetime) -> bool:
        owners = self._desk.owners
        return owners is not None and await owners.book(self._call, local)

    def _cue(self) -> Cue:
        if not self._claim.turns:
            return Cue.OPENING
        return Cue.MOVED if self._claim.moved else Cue.RESUME

    def _journal_state(self) -> None:
        """The call is in progress; asked through the journal, so that it survives a database that is away."""

        async def in_progress() -> None:
            try:
                await self._desk.store.advance(self._call.id, "in_progress", epoch=self._call.epoch)
            except IllegalTransition as late:
                if late.call.over or late.call.state == "ending":
                    self._end("superseded")

        self.context.run(self._journal.write(in_progress))

    async def _settle(self, reason: str) -> None:
        """Write what becomes of the call: handed over, or the truthful reason why it is ending."""
        self._settled = True
        store, call = self._desk.store, self._call

        async def ending() -> None:
            try:
                await store.advance(call.id, "ending", reason=reason, epoch=call.epoch)
                if reason == "caller_hung_up":
                    await store.advance(call.id, "completed", reason=reason, epoch=call.epoch)
            except IllegalTransition as late:
                log.debug("call_was_over", state=late.call.state)

        if reason == "superseded":
            return
        if reason in HANDED_OVER:
            await self._journal.write(lambda: store.release(call.id, call.epoch, moved=reason == "moved"))
            await self._journal.flush(FLUSH_SECONDS)
        else:
            await self._journal.write(ending)

    async def _keep_recording(self) -> None:
        recording = await join_recording(self._call.id, self._folder)
        if recording is not None:
            await self._journal.write(lambda: note_recording(self._desk.store, self._call.id, recording))
        await self._journal.flush(SETTLE_SECONDS)

    async def _move(self, within_s: float) -> None:
        """Wait for a moment in which nobody speaks, then let go."""
        deadline = self.context.clock.monotonic() + within_s
        while self.context.clock.monotonic() < deadline:
            if self._conversation is not None and self._conversation.quiet:
                break
            await self.context.clock.sleep(MOVE_POLL_SECONDS)
        self._end("moved")

    def _end(self, reason: str, *, graceful: bool = False) -> None:
        if self._conversation is None:
            self._reason = self._reason or reason
        else:
            self._conversation.end(reason, graceful=graceful)

    @property
    def _folder(self) -> Path:
        return self._desk.recordings / self._call.id
