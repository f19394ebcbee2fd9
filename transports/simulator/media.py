"""Media Streams from the network's side: https://www.twilio.com/docs/voice/media-streams/websocket-messages"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from .codec import RATE_HZ
from .faults import Fault, Faults
from .line import Line
from .measures import Measures
from .websocket import MediaSocket, UpgradeRefused

CONNECT_S = 10.0


class MediaStream:
    """One bidirectional stream of a call. `ended` resolves to how it ended."""

    def __init__(self, account_sid: str, call_sid: str, line: Line, measures: Measures, faults: Faults) -> None:
        self.sid = "MZ" + uuid.uuid4().hex
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._account_sid = account_sid
        self._call_sid = call_sid
        self._line = line
        self._measures = measures
        self._faults = faults
        self._socket: MediaSocket | None = None
        self._sequence = 0
        self._chunk = 0
        self._started_at = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self._jitter: Fault | None = None
        self._held: list[bytes] = []
        self._held_until = 0.0
        self._stopped = False
        self._tail = b'"},"streamSid":"' + self.sid.encode() + b'"}'

    async def open(self, url: str, parameters: Mapping[str, str], signature: str) -> None:
        """Connect, say `connected` and `start`, and take the line.

        Raises:
            UpgradeRefused: the server did not take the socket within 10 s.
        """
        headers = {"X-Twilio-Signature": signature, "User-Agent": "Twilio.TmeWs/1.0"}
        try:
            async with asyncio.timeout(CONNECT_S):
                self._socket = await MediaSocket.connect(url, headers, self._receive, self._lost)
        except TimeoutError as error:
            raise UpgradeRefused(f"{url} did not answer the upgrade within {CONNECT_S:.0f} s.") from error
        self._started_at = time.monotonic()
        self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"}, numbered=False)
        start = {
            "accountSid": self._account_sid,
            "streamSid": self.sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": RATE_HZ, "channels": 1},
            "customParameters": dict(parameters),
        }
        self._send({"event": "start", "start": start, "streamSid": self.sid})
        self._measures.stream_starts(self.sid)
        if not self.ended.done():
            self._line.attach(self, self._echo)
            self._arm()

    def send_frame(self, payload: bytes) -> None:
        """Send 20 ms of the caller, in base64."""
        if self._socket is None:
            return
        self._sequence += 1
        self._chunk += 1
        text = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d","payload":"%b%b'
            % (
                self._sequence,
                self._chunk,
                (self._line.now - self._started_at) * 1000,
                payload,
                self._tail,
            )
        )
        if self._jitter is not None:
            self._hold(text)
        else:
            self._socket.send(text)

    def press(self, digits: str) -> None:
        """Send key presses."""
        for digit in digits:
            dtmf = {"track": "inbound_track", "digit": digit}
            self._send({"event": "dtmf", "streamSid": self.sid, "dtmf": dtmf})

    def stop(self) -> None:
        """The call ends or goes elsewhere: `stop`, then a close frame."""
        if self._stopped or self._socket is None or self.ended.done():
            return
        self._stopped = True
        stop = {"accountSid": self._account_sid, "callSid": self._call_sid}
        self._send({"event": "stop", "streamSid": self.sid, "stop": stop})
        self._socket.close()
        self._finish("stopped")

    async def gone(self) -> None:
        """Wait until the socket is closed; a server that does not answer our farewell is left behind."""
        if self._socket is not None:
            await self._socket.gone.wait()

    def inflict(self, fault: Fault) -> None:
        """Let a stream fault strike now."""
        if self._socket is None or self.ended.done():
            return
        if fault.kind == "stream_drop":
            self._socket.drop(fault.mode)
        elif fault.kind == "stream_half_open":
            self._socket.freeze()
        elif fault.kind == "stream_garbage":
            self._socket.send(b'{"event": "media", "media": {"payload": "%%%')
        elif fault.kind == "stream_oversized":
            self._socket.send(b'{"event":"media","media":{"payload":"' + b"A" * fault.size + self._tail)
        elif fault.kind == "stream_jitter":
            self._jitter = fault

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        for kind in ("stream_drop", "stream_half_open", "stream_garbage", "stream_oversized", "stream_jitter"):
            if fault := self._faults.strike(kind, call=self._call_sid):
                delay = 0.0 if kind == "stream_jitter" else fault.moment_ms(self._faults.chance) / 1000
                self._timers.append(loop.call_later(delay, self.inflict, fault))

    def _hold(self, text: bytes) -> None:
        assert self._jitter
        assert self._socket
        self._held.append(text)
        if self._line.now < self._held_until:
            return
        for held in self._held:
            self._socket.send(held)
        self._held.clear()
        self._held_until = self._line.now + self._faults.chance.uniform(0, self._jitter.ms) / 1000

    def _receive(self, data: bytes, now: float) -> None:
        if self._stopped:
            return
        try:
            message: Any = json.loads(data)
            event = message["event"]
            if event == "media":
                audio = base64.b64decode(message["media"]["payload"], validate=True)
                self._measures.output.arrive(now, len(audio) / RATE_HZ)
                self._line.arrive(audio, now)
            elif event == "mark":
                self._line.mark(str(message["mark"]["name"]))
            elif event == "clear":
                self._line.clear(now)
            else:
                raise ValueError(f"unknown event {event!r}")
            if message.get("streamSid") != self.sid:
                raise ValueError("a streamSid that is not this stream's")
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            self._measures.protocol_errors.append(f"{type(error).__name__}: {error}: {data[:80]!r}")

    def _echo(self, name: str) -> None:
        self._send({"event": "mark", "streamSid": self.sid, "mark": {"name": name}})

    def _send(self, message: dict[str, Any], numbered: bool = True) -> None:
        assert self._socket
        if numbered:
            self._sequence += 1
            message = {"event": message["event"], "sequenceNumber": str(self._sequence), **message}
        self._socket.send(json.dumps(message, separators=(",", ":")).encode())

    def _lost(self, how: str) -> None:
        if not self._stopped:
            self._finish(how)

    def _finish(self, how: str) -> None:
        if self.ended.done():
            return
        for timer in self._timers:
            timer.cancel()
        at = time.monotonic()
        if self._line.sink is self:
            self._line.detach(dropped=not self._stopped)
        self._measures.stream_ends(how, at, dropped=not self._stopped)
        self.ended.set_result(how)
