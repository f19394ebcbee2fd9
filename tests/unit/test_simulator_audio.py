"""Telephone audio, the line and the figures taken from it."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np
import pytest

from transports.simulator import codec
from transports.simulator.hearing import SpeechDetector, phrases
from transports.simulator.line import Line, LineLost
from transports.simulator.measures import Distribution, Measures, Output, together
from transports.simulator.parrot import tone


class Sink:
    """A stream that keeps what it is sent."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send_frame(self, payload: bytes) -> None:
        self.frames.append(payload)


@pytest.fixture
def line() -> Line:
    return Line(Measures("CA1"))


def test_every_mulaw_code_survives_a_round_trip() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # both zeros decode to 0; one is enough
    assert codec.encode(codec.decode(codes)) == codes


def test_encoding_is_as_exact_as_the_code_allows() -> None:
    samples = np.arange(-32768, 32768, dtype=np.int16)
    error = np.abs(codec.decode(codec.encode(samples)).astype(int) - samples)
    assert np.all(error <= np.maximum(4, np.abs(samples.astype(int)) // 32 + 4))


def test_a_clip_is_cut_into_whole_frames_with_their_wire_form() -> None:
    clip = codec.clip("hello", np.zeros(401, np.int16))
    assert [len(frame) for frame in clip.frames] == [160, 160, 160]
    assert len(clip.payloads) == 3


def test_resampling_keeps_a_tone_and_its_length() -> None:
    at = np.arange(22050) / 22050
    out = codec.resample((10_000 * np.sin(2 * np.pi * 500 * at)).astype(np.int16), 22050, 8000)
    spectrum = np.abs(np.fft.rfft(out.astype(float)))
    assert len(out) == 8000
    assert int(np.argmax(spectrum)) == 500


def test_a_recording_holds_the_caller_left_and_the_bot_right(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "call.wav"
    codec.write_wav(path, tone(0.1), codec.SILENCE)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 8000, 800)
        stereo = np.frombuffer(file.readframes(800), dtype="<i2").reshape(-1, 2)
    assert np.abs(stereo[:, 0]).max() > 1000
    assert np.abs(stereo[:, 1]).max() == 0


def test_one_click_is_no_speech() -> None:
    detector = SpeechDetector()
    assert not detector.hear(tone(0.02), 0.0)
    assert not detector.hear(codec.SILENCE, 0.02)
    assert not detector.hear(tone(0.02), 0.04)
    assert detector.hear(tone(0.02), 0.06)
    assert detector.started_at == 0.04


def test_sentences_are_what_can_be_heard() -> None:
    assert phrases(["Hi, this is Mia. May I record?"]) == ["hi this is mia", "may i record"]


async def test_marks_come_back_when_playback_reaches_them(line: Line) -> None:
    echoed: list[str] = []
    line.attach(Sink(), echoed.append)
    line.mark("at once")
    assert echoed == ["at once"]
    line.arrive(tone(0.05), 0.0)  # two frames and a half
    line.mark("end")
    for tick in range(3):
        line.tick(tick * 0.02)
        assert "end" not in echoed
    line.tick(0.08)
    assert echoed == ["at once", "end"]


async def test_clear_drops_the_audio_and_returns_every_mark(line: Line) -> None:
    echoed: list[str] = []
    line.attach(Sink(), echoed.append)
    line.arrive(tone(1.0), 0.0)
    line.mark("a")
    line.arrive(tone(1.0), 0.0)
    line.mark("b")
    for tick in range(5):
        line.tick(tick * 0.02)
    line.clear(0.1)
    assert echoed == ["a", "b"]
    for tick in range(5, 10):
        line.tick(tick * 0.02)
    assert line.bot_heard_at == pytest.approx(0.1)


async def test_what_a_dropped_stream_had_buffered_is_never_heard(line: Line) -> None:
    line.attach(Sink(), lambda name: None)
    line.arrive(tone(1.0), 0.0)
    line.detach(dropped=True)
    for tick in range(10):
        line.tick(tick * 0.02)
    assert line.bot_heard_at == 0.0


async def test_a_caller_is_told_that_the_line_was_lost_under_the_words(line: Line) -> None:
    sink = Sink()
    line.attach(sink, lambda name: None)
    speaking = asyncio.create_task(line.speak(codec.clip("hello", codec.decode(tone(1.0)))))
    await asyncio.sleep(0)
    for tick in range(5):
        line.tick(tick * 0.02)
    line.detach(dropped=True)
    line.tick(0.1)
    with pytest.raises(LineLost):
        await speaking
    assert line.measures.record()["utterances"][0]["cut"]
    assert len(sink.frames) == 5


def test_even_output_has_no_jitter_and_no_underrun() -> None:
    output = Output()
    for number in range(100):
        output.arrive(number * 0.04, 0.04)
    record = output.record()
    assert record["jitter_ms"]["max"] == 0
    assert record["lateness_ms"]["max"] == 0
    assert record["underrun_share"] == 0


def test_a_late_message_is_an_underrun_and_a_pause_is_none() -> None:
    output = Output()
    output.arrive(0.0, 0.1)
    output.arrive(0.15, 0.1)  # 50 ms too late
    output.arrive(2.0, 0.1)  # a new talk-spurt
    record = output.record()
    assert record["lateness_ms"]["max"] == 50
    assert record["underruns"] == 1
    assert record["underrun_ms"] == 50
    assert record["underrun_share"] == pytest.approx(0.05 / 0.35)


def test_a_lead_hides_a_stall() -> None:
    output = Output()
    output.arrive(0.0, 0.2)  # 200 ms sent ahead
    output.arrive(0.15, 0.02)
    assert output.record()["underruns"] == 0


def test_the_figures_of_many_calls_come_together() -> None:
    one, other = Distribution({1: 99}), Distribution({50: 1})
    one.merge(other)
    assert (one.percentile(0.5), one.percentile(0.99), one.percentile(1.0)) == (1, 1, 50)
    assert together([Measures("CA1").record(), Measures("CA2").record()])["calls"] == 2
