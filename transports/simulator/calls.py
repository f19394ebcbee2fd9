"""Calls: their state, from the first ring to the last webhook, and the documents they are led by.

States are Twilio's: queued, ringing, in-progress, then one of completed, busy, failed, no-answer, canceled.
"""

from __future__ import annotations

import asyncio
import time
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from . import codec, twiml
from .caller import Hands, Person, noise_clip
from .line import Line
from .measures import Measures
from .media import MediaStream
from .persona import Persona
from .voice import VoiceStyle
from .webhooks import WebhookError
from .websocket import UpgradeRefused

if TYPE_CHECKING:
    from .network import Network

FINAL = ("completed", "busy", "failed", "no-answer", "canceled")
_DOCUMENTS = 300  # a call that asks for more than this in a minute is going in circles
_SAY_STYLE = VoiceStyle("en-us", 170, 40)


@dataclass(frozen=True, slots=True)
class Instructions:
    """How a call is led: where its first document is, who is told of its progress, what limits it has."""

    url: str = ""
    method: str = "POST"
    document: str = ""
    status_url: str = ""
    status_method: str = "POST"
    status_events: tuple[str, ...] = ("completed",)
    ring_s: float = 60.0
    limit_s: float = 14_400.0


@dataclass(frozen=True, slots=True)
class Detection:
    """Answering-machine detection: `Enable` or `DetectMessageEnd`, told at once or asynchronously."""

    mode: str = ""
    asynchronous: bool = False
    url: str = ""
    method: str = "POST"


NO_DETECTION = Detection()


class _Over(Exception):
    """The call has come to an end of its own; `status` says which."""

    def __init__(self, status: str, error: tuple[int, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


class Call:
    """One call of the network. `run` lives it; `end` and `redirect` reach into it from outside."""

    def __init__(
        self,
        network: Network,
        direction: str,
        numbers: tuple[str, str],
        persona: Persona,
        instructions: Instructions,
        detection: Detection = NO_DETECTION,
    ) -> None:
        self.sid = "CA" + uuid.uuid4().hex
        self.direction = direction
        self.from_, self.to = numbers
        self.persona = persona
        self.status = "queued" if direction == "outbound-api" else "ringing"
        self.created_at = datetime.now(UTC)
        self.updated_at = self.created_at
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.answered_by: str | None = None
        self.error: tuple[int, str] | None = None
        self.recording = ""
        self.measures = Measures(self.sid)
        self.line = Line(self.measures, noise_clip(persona.manner.noise_dbfs), network.config.recordings is not None)
        self.stream: MediaStream | None = None
        self.task: asyncio.Task[None] | None = None
        self._network = network
        self._instructions = instructions
        self._detection = detection
        self._last_stream: MediaStream | None = None
        self._sequence = 0
        self._next: tuple[str, str, str] | None = None  # url, method, document of a redirect from outside
        self._ending = ""
        self._leading: asyncio.Task[None] | None = None
        self._callbacks: list[asyncio.Task[None]] = []
        self._documents: list[float] = []
        self._prefetched: tuple[twiml.Verb, ...] | None = None  # an inbound call's first document

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self.status in FINAL

    @property
    def duration_s(self) -> int:
        """Whole seconds from answer to end, rounded up as carriers do."""
        if self.started_at is None:
            return 0
        lasted = ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()
        return int(-(-lasted // 1))

    def record(self) -> dict[str, Any]:
        """What this call was like, ready for JSON."""
        return {
            "sid": self.sid,
            "direction": self.direction,
            "from": self.from_,
            "to": self.to,
            "persona": self.persona.name,
            "status": self.status,
            "finished": self.task is not None and self.task.done(),
            "duration_s": self.duration_s,
            "answered_by": self.answered_by,
            "error": None if self.error is None else {"code": self.error[0], "message": self.error[1]},
            "recording": self.recording,
            **self.measures.record(),
        }

    def end(self, status: str = "completed") -> None:
        """Hang up, or cancel a call that was not answered yet. Returns at once."""
        if not self.over and not self._ending:
            self._ending = status
            if self._leading:
                self._leading.cancel()

    def redirect(self, url: str, method: str, document: str) -> None:
        """Lead the call by another document from now on."""
        self._next = (url, method, document)
        if self._leading:
            self._leading.cancel()

    async def run(self) -> None:
        """Live the call to its end. Never raises but for cancellation, which counts as a hang-up."""
        person = Person(self.persona, self.line, self._network.speech, Hands(self._press, self.end))
        living: asyncio.Task[None] | None = None
        outcome = _Over("failed", (31000, "The network was stopped."))
        try:
            await person.prepare()
            self._leading = asyncio.create_task(self._arrive())
            await self._lead()
            self._network.ticker.add(self.line)
            living = asyncio.create_task(person.live())
            outcome = await self._conduct()
        except _Over as over:
            outcome = over
        except Exception as error:  # a defect of the simulator must show in the record, not hang a benchmark
            outcome = _Over("failed", (31000, f"{type(error).__name__}: {error}"))
            self.measures.note("defect", "".join(traceback.format_exception(error)))
        finally:
            await self._finish(outcome, living)

    async def _conduct(self) -> _Over:
        """Follow documents until the call is over."""
        limit = asyncio.get_running_loop().call_later(self._instructions.limit_s, self.end)
        first = self._instructions
        todo: tuple[str, str, str] | None = (first.url, first.method, first.document)
        try:
            while True:
                if self._next:
                    todo, self._next = self._next, None
                assert todo
                self._leading = asyncio.create_task(self._follow(*todo))
                try:
                    await self._lead()
                    if not self._next:
                        return _Over("completed")
                except _Over as over:
                    if over.status != "redirected":
                        return over
        finally:
            limit.cancel()

    async def _lead(self) -> None:
        """Wait for what leads the call; `end` and `redirect` break in by cancelling it."""
        assert self._leading
        if self._ending:
            self._leading.cancel()
        try:
            await self._leading
        except asyncio.CancelledError:
            if self._ending:
                raise _Over(self._ending) from None
            if self._next:
                raise _Over("redirected") from None
            self._leading.cancel()
            raise

    # the beginning

    async def _arrive(self) -> None:
        """Ring until somebody answers. An inbound call is answered by the server's first document."""
        if self.direction == "inbound":
            first = self._instructions
            verbs = await self._document(first.url, first.method, first.document, final="failed")
            if verbs and isinstance(verbs[0], twiml.Reject):
                raise _Over("busy" if verbs[0].reason == "busy" else "no-answer")
            self._prefetched = verbs
        else:
            self._notify("initiated", "initiated")
            pickup = self.persona.pickup
            self._set("ringing")
            self._notify("ringing", "ringing")
            if pickup.outcome == "failed":
                raise _Over("failed", (13224, "The number does not exist."))
            wait_s = pickup.after_ms / 1000
            if pickup.outcome == "no-answer" or wait_s > self._instructions.ring_s:
                await asyncio.sleep(self._instructions.ring_s)
                raise _Over("no-answer")
            await asyncio.sleep(wait_s)
            if pickup.outcome == "busy":
                raise _Over("busy")
        self.started_at = datetime.now(UTC)
        self._set("in-progress")
        self.measures.answered()
        self._notify("answered", "in-progress")
        if self._detection.mode:
            await self._detect()

    async def _detect(self) -> None:
        took_ms = 40 if self.persona.pickup.answered_by == "human" else 120
        if self._detection.asynchronous:
            self._callbacks.append(asyncio.create_task(self._tell_machine(took_ms)))
            return
        await asyncio.sleep(took_ms / 1000)
        self.answered_by = self.persona.pickup.answered_by

    async def _tell_machine(self, took_ms: int) -> None:
        await asyncio.sleep(took_ms / 1000)
        self.answered_by = self.persona.pickup.answered_by
        params = {
            "AccountSid": self._network.config.account_sid,
            "CallSid": self.sid,
            "AnsweredBy": self.answered_by,
            "MachineDetectionDuration": str(took_ms),
        }
        if self._detection.url:
            await self._network.webhooks.notify(
                "amd", self._detection.url, self._detection.method, params, self.measures
            )

    # documents

    async def _follow(self, url: str, method: str, document: str) -> None:
        """Execute a document and those it leads to, until there is nothing more to do."""
        extra: dict[str, str] = {}
        while True:
            if self._prefetched is not None:
                verbs, self._prefetched = self._prefetched, None
            else:
                verbs = await self._document(url, method, document, "completed", extra)
            document, extra = "", {}
            for verb in verbs:
                target = await self._execute(verb)
                if target is not None:
                    url, method, extra = target
                    break
            else:
                return

    async def _document(
        self, url: str, method: str, document: str, final: str, extra: Mapping[str, str] | None = None
    ) -> tuple[twiml.Verb, ...]:
        """Fetch and read a document; what goes wrong ends the call as `final`, as at Twilio without a fallback."""
        now = time.monotonic()
        self._documents = [at for at in self._documents if now - at < 60] + [now]
        try:
            if len(self._documents) > _DOCUMENTS:
                raise WebhookError(11215, "Too many redirects.")
            if document:
                return twiml.parse(document, url)
            kind = "action" if extra else "voice"
            params = self.params() | dict(extra or {})
            answer = await self._network.webhooks.fetch(kind, url, method, params, self.measures)
            return twiml.parse(answer.text, url)
        except (WebhookError, twiml.TwimlError) as error:
            raise _Over(final, (error.code, str(error))) from error

    async def _execute(self, verb: twiml.Verb) -> tuple[str, str, dict[str, str]] | None:
        """Do one verb; the next document to ask for, if it names one."""
        match verb:
            case twiml.Connect():
                extra = await self._connect(verb)
                return (verb.action, verb.method, extra) if verb.action else None
            case twiml.Redirect():
                return verb.url, verb.method, {}
            case twiml.Say():
                clip = await self._network.speech.say(verb.text, _SAY_STYLE)
                for _ in range(min(verb.loop or 1, 10)):
                    self.line.arrive(b"".join(clip.frames), time.monotonic())
                    await asyncio.sleep(clip.seconds)
            case twiml.Pause():
                await asyncio.sleep(verb.seconds)
            case twiml.Reject() | twiml.Hangup():
                raise _Over("completed")
            case _:
                assert_never(verb)
        return None

    async def _connect(self, verb: twiml.Connect) -> dict[str, str]:
        """Talk over a stream until it ends; what the `action` request says of it."""
        network, noun = self._network, verb.stream
        stream = MediaStream(network.config.account_sid, self.sid, self.line, self.measures, network.faults)
        about = {"StreamSid": stream.sid}
        signature = network.webhooks.signature(noun.url, {}, "stream_bad_signature", "stream", self.sid)
        self.stream = self._last_stream = stream
        try:
            await stream.open(noun.url, noun.parameters, signature)
            self._tell_stream(noun, stream.sid, "stream-started")
            try:
                await asyncio.wait([stream.ended])  # a plain await would cancel the future along with us
            finally:
                self._tell_stream(noun, stream.sid, "stream-stopped")
        except UpgradeRefused as error:
            self.measures.note("upgrade_refused", str(error))
            self._tell_stream(noun, stream.sid, "stream-error", str(error))
            about["StreamError"] = "31920"
        finally:
            stream.stop()
            self.stream = None
        return about

    # the end

    async def _finish(self, outcome: _Over, living: asyncio.Task[None] | None) -> None:
        if self.stream:
            self.stream.stop()
        self.line.close()
        self._network.ticker.remove(self.line)
        self.ended_at = datetime.now(UTC)
        self.error = outcome.error
        self._set(outcome.status)
        if living:
            await asyncio.gather(living, return_exceptions=True)
            if not living.cancelled() and (error := living.exception()):
                self.measures.note("defect", repr(error))
        folder = self._network.config.recordings
        if folder is not None and self.line.left and self.line.right:
            path = Path(folder) / f"{self.sid}.wav"
            await asyncio.to_thread(codec.write_wav, path, bytes(self.line.left), bytes(self.line.right))
            self.recording = str(path)
        self._notify("completed", outcome.status)
        await asyncio.gather(*self._callbacks, return_exceptions=True)
        await self._network.webhooks.release(self.measures)
        if self._last_stream:
            await self._last_stream.gone()

    # what is told

    def params(self, status: str = "") -> dict[str, str]:
        """The parameters every webhook about this call carries."""
        params = {
            "AccountSid": self._network.config.account_sid,
            "ApiVersion": "2010-04-01",
            "CallSid": self.sid,
            "CallStatus": status or self.status,
            "Called": self.to,
            "Caller": self.from_,
            "Direction": self.direction,
            "From": self.from_,
            "To": self.to,
        }
        if self.answered_by and not self._detection.asynchronous:
            params["AnsweredBy"] = self.answered_by
        return params

    def _set(self, status: str) -> None:
        self.status, self.updated_at = status, datetime.now(UTC)

    def _notify(self, event: str, status: str) -> None:
        """Queue a status callback behind those already on their way."""
        instructions = self._instructions
        number, self._sequence = self._sequence, self._sequence + 1
        if not instructions.status_url or event not in instructions.status_events:
            return
        params = self.params(status) | {
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(number),
            "Timestamp": datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000"),
        }
        if event == "completed":
            params |= {"CallDuration": str(self.duration_s), "Duration": str(-(-self.duration_s // 60))}
            params["SipResponseCode"] = {"busy": "486", "no-answer": "487", "canceled": "487", "failed": "404"}.get(
                status, "200"
            )
        before = self._callbacks[-1] if self._callbacks else None
        self._callbacks.append(asyncio.create_task(self._tell(event, params, before)))

    async def _tell(self, event: str, params: dict[str, str], before: asyncio.Task[None] | None) -> None:
        if before:
            await asyncio.wait([before])
        instructions = self._instructions
        await self._network.webhooks.notify(
            f"status-{event}", instructions.status_url, instructions.status_method, params, self.measures
        )

    def _tell_stream(self, noun: twiml.Stream, sid: str, event: str, error: str = "") -> None:
        if not noun.status_url:
            return
        params = {
            "AccountSid": self._network.config.account_sid,
            "CallSid": self.sid,
            "StreamSid": sid,
            "StreamName": noun.name or sid,
            "StreamEvent": event,
            "Timestamp": datetime.now(UTC).isoformat(),
        }
        if error:
            params["StreamError"] = error
        sending = self._network.webhooks.notify(event, noun.status_url, noun.status_method, params, self.measures)
        self._callbacks.append(asyncio.create_task(sending))

    def _press(self, digits: str) -> None:
        if self.stream:
            self.stream.press(digits)
