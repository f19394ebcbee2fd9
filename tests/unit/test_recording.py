"""Recordings: nothing before consent, both sides in step, and every part that a dead process left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bots import recording as recording_module
from bots.recording import RATE_HZ, Recorder, assemble

ROOT = Path(__file__).parents[2]
CHUNK = RATE_HZ * 40 // 1000


class Time:
    """The recorder's clock, moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at

    def time_ns(self) -> int:
        return int(self.at * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(recording_module, "time", clock)
    return clock


def chunk(value: int) -> bytes:
    return np.full(CHUNK, value, np.int16).tobytes()


def sound(path: Path) -> npt.NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE_HZ)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)


def span(channel: npt.NDArray[np.int16]) -> tuple[float, float]:
    """Where in seconds a channel begins and ends to sound."""
    loud = np.flatnonzero(channel)
    return float(loud[0]) / RATE_HZ, float(loud[-1] + 1) / RATE_HZ


async def test_without_consent_no_file_ever_exists(tmp_path: Path, clock: Time) -> None:
    """CMB-18, architecture 4: what is not started leaves no trace, not even a folder."""
    folder = tmp_path / "call"
    recorder = Recorder(folder, 1)
    recorder.caller(chunk(1000))
    recorder.bot(chunk(1000))
    await recorder.stop()
    assert not folder.exists()
    assert not recorder.recording
    assert assemble(folder, tmp_path / "call.wav") is None


async def test_what_was_said_before_consent_is_not_in_the_recording(tmp_path: Path, clock: Time) -> None:
    """CMB-18: the recording begins with the yes, not with the call."""
    recorder = Recorder(tmp_path / "call", 1)
    recorder.caller(chunk(111))
    clock.at += 0.04
    recorder.start()
    recorder.start()
    clock.at += 0.04
    recorder.caller(chunk(222))
    await recorder.stop()
    path = assemble(tmp_path / "call", tmp_path / "call.wav")
    assert path is not None
    assert set(sound(path)[:, 0]) <= {0, 222}


async def test_the_two_sides_lie_where_they_were_heard(tmp_path: Path, clock: Time) -> None:
    """COM-12: caller left, bot right, and the bot's lead over its playing is taken into account."""
    recorder = Recorder(tmp_path / "call", 1, lead_seconds=0.2)
    recorder.start()
    for tick in range(50):  # two seconds: the bot speaks in the first, the caller in the second
        clock.at += 0.04
        if tick < 25:
            recorder.bot(chunk(500))
        else:
            recorder.caller(chunk(900))
    await recorder.stop()
    path = assemble(tmp_path / "call", tmp_path / "call.wav")
    assert path is not None
    heard = sound(path)
    caller, bot = span(heard[:, 0]), span(heard[:, 1])
    assert caller == pytest.approx((1.0, 2.0), abs=0.05)
    assert bot == pytest.approx((0.2, 1.2), abs=0.05)


async def test_a_pause_is_kept_and_jitter_tears_no_hole(tmp_path: Path, clock: Time) -> None:
    """COM-12: chunks that come in a bunch are one sound; only a real gap is silence."""
    recorder = Recorder(tmp_path / "call", 1)
    recorder.start()
    clock.at += 0.16
    for _ in range(4):
        recorder.caller(chunk(300))
    clock.at += 1.0
    recorder.caller(chunk(300))
    await recorder.stop()
    path = assemble(tmp_path / "call", tmp_path / "call.wav")
    assert path is not None
    channel = sound(path)[:, 0]
    first = np.flatnonzero(channel)[: 4 * CHUNK]
    assert first[-1] - first[0] == 4 * CHUNK - 1, "the bunch has no hole"
    assert span(channel)[1] == pytest.approx(1.16, abs=0.05)


async def test_parts_are_joined_in_the_order_they_were_begun(tmp_path: Path, clock: Time) -> None:
    """COM-15: each epoch leaves one part; together they are one recording, and the parts are gone."""
    for epoch, value in ((10, 1), (2, 2), (11, 3)):  # the time decides, not the number
        clock.at += 1
        recorder = Recorder(tmp_path / "call", epoch)
        recorder.start()
        clock.at += 0.04
        recorder.caller(chunk(value))
        await recorder.stop()
    path = assemble(tmp_path / "call", tmp_path / "call.wav")
    assert path is not None
    heard = sound(path)[:, 0]
    assert [int(value) for value in heard[::CHUNK]] == [1, 2, 3]
    assert not (tmp_path / "call").exists()


RECORDS = """
import asyncio, sys
from pathlib import Path
import numpy as np
from bots.recording import Recorder
async def main():
    recorder = Recorder(Path(sys.argv[1]), 1)
    recorder.start()
    said = 0
    while True:
        await asyncio.sleep(0.04)
        recorder.caller(np.full(320, 700, np.int16).tobytes())
        said += 1
        print(said, flush=True)
asyncio.run(main())
"""


@pytest.mark.heavy
async def test_a_killed_process_loses_no_more_than_the_last_moments(tmp_path: Path) -> None:
    """COM-15: what was said up to two seconds before is on the disk."""
    folder = tmp_path / "call"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECORDS, str(folder), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    said = 0
    while said < 100:  # four seconds
        said = int(await process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    path = assemble(folder, tmp_path / "call.wav")
    assert path is not None
    heard = int(np.count_nonzero(sound(path)[:, 0])) / CHUNK
    assert heard >= said - 2.0 / 0.04


async def test_withdrawn_consent_deletes_what_was_recorded(tmp_path: Path) -> None:
    """CMB-08: a yes that is taken back leaves no audio behind, of this process or of an earlier one."""
    earlier = tmp_path / "call" / "0001-1.pcm"
    earlier.parent.mkdir()
    earlier.write_bytes(b"\1\0" * 800)
    recorder = Recorder(tmp_path / "call", 2)
    recorder.start()
    recorder.caller(b"\1\0" * 8000)
    recorder.discard()
    recorder.caller(b"\1\0" * 8000)
    await recorder.stop()
    assert not recorder.recording
    assert list((tmp_path / "call").glob("*.pcm")) == []
