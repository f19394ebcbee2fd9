"""Whatever a peer sends on a media socket: no crash, no hang, and a close that says why (COM-66)."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loguru import logger
from pipecat.frames.frames import CancelFrame, InputAudioRawFrame, InterruptionFrame, TTSAudioRawFrame, TTSStoppedFrame

from tests.doubles.media import PATIENCE_SECONDS, START, STREAM, MediaCall, media_call, media_server
from transports.twilio.stream import MediaStreamParams

pytestmark = pytest.mark.heavy

PARAMS = MediaStreamParams(ahead_seconds=2.0, half_open_seconds=0.15, drain_seconds=0.05, write_seconds=0.5)
REASONS = {"stop", "closed", "lost", "half_open", "malformed"}
EVENTS = ["connected", "start", "media", "mark", "dtmf", "stop", "clear", "", "\u0000"]

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
bodies = st.one_of(
    values,
    st.fixed_dictionaries({}, optional={"payload": values, "track": values, "name": values, "digit": values}),
    st.binary(max_size=400).map(lambda audio: {"payload": base64.b64encode(audio).decode()}),
)
messages = st.builds(
    lambda event, body, more: {"event": event, "streamSid": STREAM, event: body} | more,
    st.sampled_from(EVENTS),
    bodies,
    st.dictionaries(st.sampled_from(["sequenceNumber", "streamSid", "x"]), values, max_size=2),
)
texts = st.one_of(
    messages.map(json.dumps),
    st.tuples(messages.map(json.dumps), st.integers(0, 60)).map(lambda cut: cut[0][: cut[1]]),
    st.text(max_size=60),
    values.map(json.dumps),
)
steps = st.one_of(
    st.tuples(st.just("text"), texts),
    st.tuples(st.just("binary"), st.binary(max_size=60)),
    st.tuples(st.just("huge"), st.integers(30_000, 200_000)),
    st.tuples(st.just("raw"), st.binary(min_size=1, max_size=60)),
    st.tuples(st.just("audio"), st.integers(0, 2000)),
    st.tuples(st.just("speak"), st.integers(1, 500)),
    st.tuples(st.just("interrupt"), st.none()),
    st.tuples(st.just("echo"), st.sampled_from(["u", "mark-1", ""])),
    st.tuples(st.just("stop"), st.none()),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("abort"), st.none()),
)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@contextmanager
def no_complaints() -> Iterator[None]:
    """Everything that Pipecat or our receiver reports as an error of its own."""
    reported: list[str] = []
    sink = logger.add(lambda message: reported.append(str(message)), level="ERROR")
    with structlog.testing.capture_logs() as entries:
        yield
    logger.remove(sink)
    reported += [str(entry) for entry in entries if entry["log_level"] in ("error", "critical")]
    assert reported == []


async def do(call: MediaCall, kind: str, value: Any) -> None:
    match kind:
        case "text":
            await call.ws.send_str(value.encode(errors="replace").decode())
        case "binary":
            await call.ws.send_bytes(value)
        case "huge":
            await call.ws.send_str(json.dumps({"event": "media", "media": {"payload": "A" * value}}))
        case "raw":
            assert call.ws._conn is not None
            if call.ws._conn.transport is not None:
                call.ws._conn.transport.write(value)
        case "audio":
            await call.send_audio(bytes(value))
        case "speak":
            await call.queue(TTSAudioRawFrame(bytes(16 * value), 8000, 1), TTSStoppedFrame(context_id="u"))
        case "interrupt":
            await call.queue(InterruptionFrame())
        case "echo":
            await call.echo(value)
        case "stop":
            await call.send({"event": "stop", "streamSid": STREAM, "stop": {}})
        case "close":
            await call.ws.close()
        case "abort":
            assert call.ws._conn is not None
            if call.ws._conn.transport is not None:
                call.ws._conn.transport.abort()


async def drain(ws: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """Read to the end; returns the message that ended it."""
    while True:
        message = await ws.receive()
        if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            return message


async def stream(script: list[tuple[str, Any]]) -> None:
    with no_complaints():
        await _stream(script)


async def _stream(script: list[tuple[str, Any]]) -> None:
    async with media_call(PARAMS) as call:
        ending = asyncio.create_task(drain(call.ws))
        for kind, value in script:
            try:
                await do(call, kind, value)
            except (ConnectionError, aiohttp.ClientError):
                break  # it was closed on us, as it should be
        async with asyncio.timeout(PATIENCE_SECONDS):
            # The peer has gone silent: if nothing else ended the stream, that does.
            await call.until(lambda: call.reasons)
            last = await ending
            await call.queue(CancelFrame())
            await asyncio.wait((call.running,))
        assert len(call.reasons) == 1
        assert set(call.reasons) <= REASONS
        if call.reasons == ["malformed"] and last.type is aiohttp.WSMsgType.CLOSE:
            assert last.data in {1002, 1003, 1007, 1008, 1009}
            assert last.extra
        assert call.running.done()
        assert call.running.exception() is None


@fuzz
@given(st.lists(steps, max_size=12))
def test_no_script_of_messages_crashes_or_hangs_a_stream(script: list[tuple[str, Any]]) -> None:
    asyncio.run(stream(script))


async def opening(script: list[str | bytes]) -> None:
    with no_complaints():
        await _opening(script)


async def _opening(script: list[str | bytes]) -> None:
    async with media_server(PARAMS) as (call, url), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        call.ws = ws
        try:
            for message in script:
                await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
        except (ConnectionError, aiohttp.ClientError):
            pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            last = await drain(ws)
            await call.ready.wait()
        if call.refusal is not None:
            assert last.data == call.refusal.code
            assert last.extra


@settings(fuzz, max_examples=60)
@given(st.lists(st.one_of(texts, st.binary(max_size=40)), min_size=1, max_size=4))
def test_no_opening_crashes_or_hangs_a_stream(script: list[str | bytes]) -> None:
    printable = [m.encode(errors="replace").decode() if isinstance(m, str) else m for m in script]
    asyncio.run(opening(printable))


@settings(fuzz, max_examples=60)
@given(st.integers(0, 2**32))
def test_no_damage_to_a_real_message_crashes_a_stream(seed: int) -> None:
    """A valid stream with some of its bytes flipped, dropped and doubled."""
    chance = random.Random(seed)
    script: list[tuple[str, Any]] = []
    for number in range(chance.randrange(1, 8)):
        payload = base64.b64encode(chance.randbytes(160)).decode()
        media = {"track": "inbound", "chunk": str(number), "timestamp": str(20 * number), "payload": payload}
        text = bytearray(json.dumps({"event": "media", "streamSid": STREAM, "media": media}), "ascii")
        for _ in range(chance.choice((0, 0, 1, 3))):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(3)] = chance.choices(range(32, 127), k=chance.randrange(3))
        script.append(("text", text.decode()))
    asyncio.run(stream(script))


async def test_thousands_of_tiny_messages_are_just_audio() -> None:
    with no_complaints():
        async with media_call() as call:
            for _ in range(5000):
                await call.send_audio(b"\xff")
            await call.until(lambda: len(call.heard.of(InputAudioRawFrame)) == 5000 // 320)
            assert call.reasons == []


async def test_a_start_of_a_hundred_kilobytes_is_refused_with_a_reason() -> None:
    start = json.loads(json.dumps(START))
    start["start"]["customParameters"] = {f"p{n}": "x" * 100 for n in range(1000)}
    async with media_server() as (call, url), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        call.ws = ws
        await ws.send_str(json.dumps(start))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await call.ready.wait()
            last = await drain(ws)
        assert last.data == 1009
        assert last.extra
