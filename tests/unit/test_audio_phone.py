"""Phone audio: μ-law as everybody else has it, and 8 to 16 kHz and back with next to no delay (COM-18)."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bots.audio import (
    FILTER_DELAY_MS,
    MULAW_SILENCE,
    Downsampler,
    Upsampler,
    mulaw_decode,
    mulaw_encode,
)


def pcm(samples: NDArray[np.float64]) -> bytes:
    return samples.astype("<i2").tobytes()


def tone(hz: float, rate: int, seconds: float = 0.5) -> NDArray[np.float64]:
    return 10_000 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def samples(audio: bytes) -> NDArray[np.float64]:
    return np.frombuffer(audio, "<i2").astype(float)


def test_every_sample_is_coded_as_the_standard_library_did() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audioop = pytest.importorskip("audioop")  # gone in Python 3.13
    everything = np.arange(-32768, 32768).astype("<i2").tobytes()
    assert mulaw_encode(everything) == audioop.lin2ulaw(everything, 2)
    codes = bytes(range(256))
    assert mulaw_decode(codes) == audioop.ulaw2lin(codes, 2)


def test_the_ends_of_the_scale_and_silence() -> None:
    assert samples(mulaw_decode(b"\x00\x80\xff\x7f")).tolist() == [-32124, 32124, 0, 0]
    assert mulaw_encode(bytes(2)) == MULAW_SILENCE


def test_every_code_survives_a_round_trip() -> None:
    codes = bytes(code for code in range(256) if code != 0x7F)  # minus zero has no sample of its own
    assert mulaw_encode(mulaw_decode(codes)) == codes


@given(st.binary(max_size=2000))
def test_any_bytes_are_coded_without_complaint(audio: bytes) -> None:
    assert len(mulaw_decode(audio)) == 2 * len(audio)
    assert len(mulaw_encode(audio)) == len(audio) // 2


@given(st.lists(st.integers(0, 700), max_size=20), st.randoms(use_true_random=False))
def test_the_way_a_stream_is_cut_does_not_change_it(cuts: list[int], random: object) -> None:
    audio = pcm(tone(700, 16_000, 0.4))
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(audio[at : at + cut])
        at += cut
    pieces.append(audio[at:])
    down = Downsampler()
    assert b"".join(map(down.process, pieces)) == Downsampler().process(audio)
    even = [piece[: len(piece) // 2 * 2] for piece in pieces]
    up = Upsampler()
    assert b"".join(map(up.process, even)) == Upsampler().process(b"".join(even))


def test_up_and_down_again_adds_at_most_5_ms_and_keeps_speech() -> None:
    assert 2 * FILTER_DELAY_MS <= 5
    for hz in (200, 440, 1000, 2500, 3200):
        there = Upsampler().process(pcm(tone(hz, 8000)))
        assert len(there) == 2 * len(pcm(tone(hz, 8000)))
        back = samples(Downsampler().process(there))
        delay = (2 * FILTER_DELAY_MS) / 1000
        expected = 10_000 * np.sin(2 * np.pi * hz * (np.arange(len(back)) / 8000 - delay))
        error = back[200:] - expected[200:]
        assert np.sqrt(np.mean(error**2)) < 100  # of an amplitude of 10 000: -37 dB


def test_what_8_khz_cannot_carry_does_not_fold_back() -> None:
    for hz in (4800, 6000, 7500):
        assert np.abs(samples(Downsampler().process(pcm(tone(hz, 16_000))))[200:]).max() < 100


def test_an_upsampled_tone_has_no_image() -> None:
    spectrum = np.abs(np.fft.rfft(samples(Upsampler().process(pcm(tone(1000, 8000))))[400:7600]))
    hz = np.fft.rfftfreq(7200, 1 / 16_000)
    assert spectrum[hz > 4800].max() < spectrum.max() / 200
