"""The media-stream transport over real sockets and in real pipelines (COM-12, COM-14, COM-66)."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from typing import Any

import pytest
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)

from bots.audio import mulaw_decode
from tests.doubles.media import PATIENCE_SECONDS, START, STREAM, MediaCall, ended, media_call, media_server
from transports.twilio.stream import MediaStreamParams


def speech(ms: int) -> TTSAudioRawFrame:
    return TTSAudioRawFrame(b"\x10\x20" * (8 * ms), 8000, 1)


def played_ms(messages: list[dict[str, Any]]) -> float:
    return sum(len(base64.b64decode(m["media"]["payload"])) / 8 for m in messages if m["event"] == "media")


async def closed(call: MediaCall) -> int | None:
    while await call.receive() is not None:
        pass
    return call.ws.close_code


async def test_two_messages_become_one_frame_of_40_ms() -> None:
    async with media_call() as call:
        await call.send_audio(b"\x00" * 160)
        await call.send_audio(b"\x80" * 160)
        await call.until(lambda: call.heard.of(InputAudioRawFrame))
        (frame,) = call.heard.of(InputAudioRawFrame)
        assert isinstance(frame, InputAudioRawFrame)
        assert frame.audio == mulaw_decode(b"\x00" * 160 + b"\x80" * 160)
        assert (frame.sample_rate, frame.num_channels) == (8000, 1)


async def test_audio_of_other_lengths_and_tracks_keeps_the_frames_even() -> None:
    async with media_call() as call:
        await call.send_audio(b"\x01" * 160, track="outbound")
        await call.send_audio(b"\x02" * 700, track="inbound")
        await call.send_audio(b"\x03" * 260)
        await call.until(lambda: len(call.heard.of(InputAudioRawFrame)) == 3)
        audio = b"".join(f.audio for f in call.heard.frames if isinstance(f, InputAudioRawFrame))
        assert audio == mulaw_decode(b"\x02" * 700 + b"\x03" * 260)


async def test_keys_reach_the_pipeline_and_its_listeners() -> None:
    async with media_call() as call:
        for digit in "5#D":
            await call.send({"event": "dtmf", "streamSid": STREAM, "dtmf": {"track": "inbound_track", "digit": digit}})
        await call.until(lambda: len(call.digits) == 3)
        assert call.digits == ["5", "#", "D"]
        await call.until(lambda: len(call.heard.of(InputDTMFFrame)) == 2)
        assert [str(f.button.value) for f in call.heard.frames if isinstance(f, InputDTMFFrame)] == ["5", "#"]


async def test_an_utterance_ends_with_its_mark_whose_echo_proves_it_was_played() -> None:
    async with media_call() as call:
        await call.queue(speech(120), TTSStoppedFrame(context_id="greeting"))
        messages = await call.receive_until("mark")
        assert messages[-1]["mark"] == {"name": "greeting"}
        assert all(m["streamSid"] == STREAM for m in messages)
        assert played_ms(messages) == 120
        assert call.transport.playout.status().confirmed_ms == 0
        await call.echo("greeting")
        await call.until(lambda: call.marks == ["greeting"])
        assert call.transport.playout.status().confirmed_ms == 120


async def test_audio_never_runs_further_ahead_than_the_lead() -> None:
    async with media_call() as call:
        await call.queue(speech(1200), TTSStoppedFrame(context_id="long"))
        started, sent = 0.0, 0.0
        while (message := await call.receive()) and message["event"] == "media":
            started = started or time.monotonic()
            sent += played_ms([message])
            assert sent <= (time.monotonic() - started) * 1000 + 200 + 45
        assert sent == 1200


async def test_a_stall_of_100_ms_is_not_heard() -> None:
    async with media_call() as call:
        await call.queue(speech(2000), TTSStoppedFrame(context_id="long"))
        playout = call.transport.playout
        while playout.status().outstanding_ms < 170:
            assert await call.receive()
        time.sleep(0.1)  # noqa: ASYNC251  the whole process stands still, as in a long collection of garbage
        await call.receive_until("mark")
        assert playout.status().underruns == 0


async def test_a_barge_in_clears_at_once_and_new_speech_follows_without_waiting() -> None:
    """COM-14."""
    async with media_call() as call:
        await call.queue(speech(5000), TTSStoppedFrame(context_id="cut"))
        await call.receive_until("media")
        await call.queue(InterruptionFrame())
        await call.receive_until("clear")
        status = call.transport.playout.status()
        assert status.outstanding_ms == 0
        assert status.cleared_ms > 0
        await call.queue(speech(80), TTSStoppedFrame(context_id="next"))
        messages = await call.receive_until("mark")
        assert played_ms(messages) == 80  # nothing of the old speech leaked past the clear
        assert messages[-1]["mark"] == {"name": "next"}


async def test_no_clear_is_sent_when_nothing_is_outstanding() -> None:
    async with media_call() as call:
        await call.queue(InterruptionFrame(), speech(40), TTSStoppedFrame(context_id="a"))
        messages = await call.receive_until("mark")
        await call.echo("a")
        await call.until(lambda: call.marks)
        await call.queue(InterruptionFrame(), speech(40), TTSStoppedFrame(context_id="b"))
        messages += await call.receive_until("mark")
        assert [m["event"] for m in messages] == ["media", "mark", "media", "mark"]


async def test_a_cleared_mark_proves_nothing() -> None:
    """Twilio echoes the marks that a `clear` overtook; the words before them were not heard."""
    async with media_call() as call:
        await call.queue(speech(160), TTSStoppedFrame(context_id="cut"))
        await call.receive_until("mark")
        await call.queue(InterruptionFrame())
        await call.receive_until("clear")
        await call.echo("cut")
        await call.queue(speech(40), TTSStoppedFrame(context_id="heard"))
        await call.receive_until("mark")
        await call.echo("heard")
        await call.until(lambda: call.marks)
        assert call.marks == ["heard"]


async def test_the_bot_is_silent_only_when_its_last_word_was_played() -> None:
    async with media_call() as call:
        await call.queue(speech(400), TTSStoppedFrame(context_id="a"))
        await call.receive_until("mark")
        assert call.transport.playout.status().outstanding_ms > 0
        assert not call.heard.of(BotStoppedSpeakingFrame)
        await call.until(lambda: call.heard.of(BotStoppedSpeakingFrame))
        assert call.transport.playout.status().outstanding_ms == 0


async def test_protected_speech_is_played_through_a_barge_in() -> None:
    async with media_call() as call:
        disclosure = speech(400)
        disclosure.interruptible = False
        await call.queue(disclosure)
        messages = await call.receive_until("media")
        await call.queue(InterruptionFrame())
        while played_ms(messages) < 400:
            messages += await call.receive_until("media")
        assert {m["event"] for m in messages} == {"media"}


async def test_the_end_plays_out_waits_for_the_proof_and_closes_normally() -> None:
    async with media_call() as call:
        await call.queue(speech(200), EndFrame())
        messages = await call.receive_until("mark")
        assert played_ms(messages) == 200
        assert not call.running.done()
        await call.echo(messages[-1]["mark"]["name"])
        assert await closed(call) == 1000
        await asyncio.wait((call.running,), timeout=PATIENCE_SECONDS)
        assert call.running.done()
        assert call.reasons == []  # it was us


async def test_a_peer_that_never_echoes_cannot_hold_up_the_end() -> None:
    async with media_call(MediaStreamParams(drain_seconds=0.05)) as call:
        await call.queue(speech(40), EndFrame())
        assert await closed(call) == 1000


async def test_a_cancelled_call_closes_without_playing_out() -> None:
    async with media_call() as call:
        await call.queue(speech(60_000))
        await call.receive_until("media")
        await call.queue(CancelFrame())
        assert await closed(call) == 1000
        assert call.transport.playout.status().sent_ms < 5000


async def test_a_stop_message_ends_the_stream_once() -> None:
    async with media_call() as call:
        await call.send({"event": "stop", "streamSid": STREAM, "stop": {"callSid": "CA0"}})
        await call.send({"event": "stop", "streamSid": STREAM, "stop": {"callSid": "CA0"}})
        await call.until(lambda: call.reasons)
        assert await closed(call) == 1000
        await ended(call)
        assert call.reasons == ["stop"]


async def test_a_close_frame_is_told_from_a_lost_connection() -> None:
    async with media_call() as call:
        await call.ws.close()
        await call.until(lambda: call.reasons)
        assert call.reasons == ["closed"]
    async with media_call() as call:
        connection = call.ws.get_extra_info("socket")
        connection.shutdown(socket.SHUT_RDWR)  # what the death of a process looks like
        await call.until(lambda: call.reasons)
        assert call.reasons == ["lost"]


async def test_a_silent_connection_counts_as_gone() -> None:
    async with media_call(MediaStreamParams(half_open_seconds=0.3)) as call:
        await call.until(lambda: call.reasons)
        assert call.reasons == ["half_open"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 1007),
        ("[]", 1007),
        ('{"event": 7}', 1007),
        ('{"event": "media"}', 1007),
        ('{"event": "media", "media": {"payload": 5}}', 1007),
        ('{"event": "media", "media": {"payload": "not base64!"}}', 1007),
        ('{"event": "dtmf", "dtmf": {"digit": "x"}}', 1007),
        ('{"event": "start"}', 1007),
        ('{"event": "connected"}', 1002),
        ("[" * 10_000, 1007),
        ('{"event": "media", "x": "' + "a" * 40_000 + '"}', 1009),
    ],
)
async def test_malformed_messages_close_with_a_code_and_a_reason(sent: str, code: int) -> None:
    async with media_call() as call:
        await call.ws.send_str(sent)
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await call.ws.receive()
        assert message.data == code
        assert message.extra
        await call.until(lambda: call.reasons)
        assert call.reasons == ["malformed"]


async def test_a_binary_frame_closes_as_unsupported() -> None:
    async with media_call() as call:
        await call.ws.send_bytes(b"\x00")
        assert await closed(call) == 1003


async def test_a_flood_is_cut_off() -> None:
    async with media_call(MediaStreamParams(ahead_seconds=1.0)) as call:
        for _ in range(200):
            await call.send_audio(b"\xff" * 160)
        assert await closed(call) == 1008


async def test_what_twilio_may_add_is_ignored() -> None:
    async with media_call() as call:
        await call.send({"event": "weather", "weather": {"rain": True}})
        await call.send({"event": "mark", "mark": {"name": "never sent"}})
        await call.send_audio(b"\xff" * 320, timestamp="20", mood="fine")
        await call.until(lambda: call.heard.of(InputAudioRawFrame))
        assert call.reasons == []
        assert call.marks == []


async def test_nothing_counts_as_spoken_on_a_dead_line() -> None:
    """COM-15: what a resumed call repeats depends on it."""
    async with media_call() as call:
        await call.queue(speech(400), TextFrame("never heard"))
        await call.receive_until("media")
        await call.ws.close()
        await call.until(lambda: call.reasons)
        await ended(call)
        assert not call.spoken.of(TextFrame)


async def test_a_peer_that_does_not_read_is_given_up() -> None:
    params = MediaStreamParams(write_seconds=0.3, lead_ms=60_000)
    async with media_call(params) as call:
        ours = call.server_connection.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        call.server_connection.set_write_buffer_limits(high=1)
        assert call.ws._conn is not None
        assert call.ws._conn.transport is not None
        call.ws._conn.transport.pause_reading()
        theirs = call.ws.get_extra_info("socket")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        await call.queue(speech(30_000))
        keepalive = asyncio.create_task(_keep_talking(call))
        await call.until(lambda: call.reasons)
        keepalive.cancel()
        call.ws._conn.transport.abort()  # or the client waits for a close frame that it does not read
        assert call.reasons == ["lost"]


async def _keep_talking(call: MediaCall) -> None:
    while True:
        await call.send_audio(b"\xff" * 160)
        await asyncio.sleep(0.02)


async def test_speech_beyond_the_queue_is_refused_aloud() -> None:
    async with media_call(MediaStreamParams(queue_seconds=1.0)) as call:
        await call.queue(speech(1500), speech(1500), speech(1500))
        await call.until(lambda: call.heard.of(ErrorFrame))
        await call.queue(InterruptionFrame())
        await call.receive_until("clear")
        assert len(call.heard.of(ErrorFrame)) == 1


async def test_the_bot_can_set_marks_of_its_own() -> None:
    from pipecat.frames.frames import OutputTransportMessageFrame

    async with media_call() as call:
        await call.queue(speech(40), OutputTransportMessageFrame({"event": "mark", "mark": {"name": 'my "own"'}}))
        messages = await call.receive_until("mark")
        assert messages[-1]["mark"] == {"name": 'my "own"'}


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (['{"event":"media","media":{"payload":""}}'], 1002),
        (['{"event":"start"}'], 1007),
        (['{"event":"start","start":{"streamSid":"MZ"}}'], 1007),
        (['{"event":"start","start":{"streamSid":"","callSid":"CA","accountSid":"AC"}}'], 1002),
        (["nonsense"], 1007),
        (['{"event":"connected"}', '{"event":"stop"}'], 1002),
        ([str(START).replace("'", '"').replace("8000", "16000")], 1003),
        ([], 1008),
    ],
)
async def test_a_stream_that_does_not_start_is_refused(messages: list[str], code: int) -> None:
    import aiohttp

    async with media_server() as (call, url), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        for message in messages:
            await ws.send_str(message)
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await ws.receive()
            await call.ready.wait()
        assert answer.data == code
        assert answer.extra
        assert call.refusal is not None
        assert call.refusal.code == code


async def test_a_peer_gone_before_its_start_is_refused() -> None:
    import aiohttp

    async with media_server() as (call, url), aiohttp.ClientSession() as session:
        async with session.ws_connect(url):
            pass
        async with asyncio.timeout(PATIENCE_SECONDS):
            await call.ready.wait()
        assert call.refusal is not None
