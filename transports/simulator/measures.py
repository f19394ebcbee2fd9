"""What one call was like, as a record. Times are milliseconds since the call began, on the simulator's clock.

The caller's speech begins and ends when its first and last frame are sent. The bot's sound is where the network
would have played it: an arriving frame follows the one before it, or plays at once if the buffer has run dry.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

_TRIFLE_S = 0.0005


class Distribution:
    """Durations counted in whole milliseconds, so that the figures of many calls can be put together."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})

    def add(self, ms: float) -> None:
        """Count one duration."""
        self._counts[round(ms)] += 1

    def merge(self, other: Distribution) -> None:
        """Count everything `other` has counted."""
        self._counts.update(other._counts)

    def percentile(self, share: float) -> int | None:
        """The smallest duration that `share` of all do not exceed; None without any."""
        total = sum(self._counts.values())
        seen = 0
        for ms in sorted(self._counts):
            seen += self._counts[ms]
            if seen >= share * total:
                return ms
        return None

    def record(self) -> dict[str, Any]:
        """Count, percentiles and the counts per millisecond."""
        return {
            "count": sum(self._counts.values()),
            "p50": self.percentile(0.50),
            "p95": self.percentile(0.95),
            "p99": self.percentile(0.99),
            "max": max(self._counts, default=None),
            "histogram": {str(ms): self._counts[ms] for ms in sorted(self._counts)},
        }


class Output:
    """How evenly the bot's media messages arrived, and how often the playout buffer ran dry in mid-speech."""

    SPURT_GAP_S = 0.4  # a dry buffer for longer is a pause between talk-spurts, for less an underrun

    def __init__(self) -> None:
        self.jitter = Distribution()  # |inter-arrival - duration of the message before|
        self.lateness = Distribution()  # arrival behind a playout that began with the spurt's first message
        self.messages = 0
        self.audio_s = 0.0
        self.underrun_s = 0.0
        self.underruns = 0
        self._arrived_at = 0.0
        self._duration_s = 0.0
        self._due_at = 0.0
        self._open = False

    def arrive(self, now: float, duration_s: float) -> None:
        """A media message with `duration_s` of audio has arrived."""
        if self._open and now - self._due_at >= self.SPURT_GAP_S:
            self._open = False
        if self._open:
            self.jitter.add(abs(now - self._arrived_at - self._duration_s) * 1000)
            late_s = max(0.0, now - self._due_at)
            self.lateness.add(late_s * 1000)
            if late_s > _TRIFLE_S:
                self.underruns += 1
                self.underrun_s += late_s
            self._due_at = max(self._due_at, now) + duration_s
        else:
            self._due_at = now + duration_s
        self._open = True
        self._arrived_at, self._duration_s = now, duration_s
        self.messages += 1
        self.audio_s += duration_s

    def cut(self) -> None:
        """The bot cleared its audio, or the stream ended: what comes next is another spurt."""
        self._open = False

    def record(self) -> dict[str, Any]:
        """The figures."""
        spurts_s = self.audio_s + self.underrun_s
        return {
            "messages": self.messages,
            "audio_ms": round(self.audio_s * 1000),
            "jitter_ms": self.jitter.record(),
            "lateness_ms": self.lateness.record(),
            "underruns": self.underruns,
            "underrun_ms": round(self.underrun_s * 1000),
            "underrun_share": self.underrun_s / spurts_s if spurts_s else 0.0,
        }


class Measures:
    """The record of one call, filled in as the call goes on."""

    def __init__(self, sid: str) -> None:
        self.sid = sid
        self.output = Output()
        self.epoch_ms = time.time() * 1000
        self.answered_ms: float | None = None
        self.first_sound_ms: float | None = None
        self.protocol_errors: list[str] = []
        self.dtmf_heard: list[str] = []
        self._zero = time.monotonic()
        self._utterances: list[dict[str, Any]] = []
        self._spurts: list[dict[str, Any]] = []
        self._turns: list[dict[str, Any]] = []
        self._barge_ins: list[dict[str, Any]] = []
        self._drops: list[dict[str, Any]] = []
        self._streams: list[dict[str, Any]] = []
        self._webhooks: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []

    def ms(self, at: float) -> float:
        """A monotonic time as milliseconds of this call."""
        return round((at - self._zero) * 1000, 1)

    def now_ms(self) -> float:
        """The present moment in milliseconds of this call."""
        return self.ms(time.monotonic())

    def answered(self) -> None:
        """The call was answered now."""
        self.answered_ms = self.now_ms()

    def caller_starts(self, text: str, at: float, bot_speaking: bool) -> None:
        """The caller begins an utterance; over the bot's speech it is a barge-in."""
        self._utterances.append({"text": text, "start_ms": self.ms(at), "end_ms": None, "cut": False})
        if bot_speaking:
            self._barge_ins.append(
                {"onset_ms": self.ms(at), "clear_after_ms": None, "silence_after_ms": None, "text": text}
            )

    def caller_ends(self, at: float, cut: bool) -> None:
        """The caller's utterance ends, `cut` if the line dropped under it."""
        if not self._utterances or self._utterances[-1]["end_ms"] is not None:
            return
        said = self._utterances[-1]
        said["end_ms"], said["cut"] = self.ms(at), cut
        self._turns.append({"text": said["text"], "end_ms": said["end_ms"], "cut": cut, "voice_to_voice_ms": None})

    def bot_starts(self, at: float, caller_speaking: bool) -> None:
        """The bot's first sound after a silence."""
        start = self.ms(at)
        self._spurts.append({"start_ms": start, "end_ms": None, "over_caller": caller_speaking})
        if self.first_sound_ms is None:
            self.first_sound_ms = start
        for drop in self._drops:
            if drop["sound_after_ms"] is None:
                drop["sound_after_ms"] = round(start - drop["at_ms"], 1)
        if self._turns and not caller_speaking:
            turn = self._turns[-1]
            if turn["voice_to_voice_ms"] is None and not turn["cut"] and start >= turn["end_ms"]:
                turn["voice_to_voice_ms"] = round(start - turn["end_ms"], 1)

    def bot_ends(self, at: float) -> None:
        """The end of the bot's last sound before a silence."""
        end = self.ms(at)
        if self._spurts and self._spurts[-1]["end_ms"] is None:
            self._spurts[-1]["end_ms"] = max(end, self._spurts[-1]["start_ms"])
        if self._barge_ins and self._barge_ins[-1]["silence_after_ms"] is None:
            self._barge_ins[-1]["silence_after_ms"] = round(max(0.0, end - self._barge_ins[-1]["onset_ms"]), 1)

    def cleared(self, at: float) -> None:
        """The bot asked for its buffered audio to be dropped."""
        self.output.cut()
        if self._barge_ins and self._barge_ins[-1]["clear_after_ms"] is None:
            self._barge_ins[-1]["clear_after_ms"] = round(self.ms(at) - self._barge_ins[-1]["onset_ms"], 1)

    def stream_starts(self, sid: str) -> None:
        """A media stream has begun."""
        for drop in self._drops:
            drop["resumed"] = True
        self._streams.append({"sid": sid, "start_ms": self.now_ms(), "end_ms": None, "end": ""})

    def stream_ends(self, end: str, at: float, dropped: bool) -> None:
        """The media stream has ended; `dropped` if neither the network nor a farewell of the call ended it."""
        self.output.cut()
        if self._streams:
            self._streams[-1] |= {"end_ms": self.ms(at), "end": end}
        if dropped:
            self._drops.append(
                {
                    "at_ms": self.ms(at),
                    "at_epoch_ms": round(self.epoch_ms + self.ms(at), 1),
                    "end": end,
                    "resumed": False,
                    "sound_after_ms": None,
                }
            )
            if self._turns and self._turns[-1]["voice_to_voice_ms"] is None:
                self._turns[-1]["cut"] = True

    def webhook(self, kind: str, url: str, status: int, took_ms: float, params: Mapping[str, str], error: str) -> None:
        """A webhook was sent (or lost)."""
        self._webhooks.append(
            {
                "kind": kind,
                "url": url,
                "at_ms": round(self.now_ms() - took_ms, 1),
                "status": status,
                "took_ms": round(took_ms, 1),
                "call_status": params.get("CallStatus", ""),
                "error": error,
            }
        )

    def note(self, event: str, text: str = "") -> None:
        """Something the caller did or understood."""
        self._notes.append({"at_ms": self.now_ms(), "event": event, "text": text})

    def record(self) -> dict[str, Any]:
        """Everything measured so far, ready for JSON."""
        heard = self.first_sound_ms is not None and self.answered_ms is not None
        first = self.first_sound_ms - self.answered_ms if heard else None  # type: ignore[operator]
        return {
            "began_at": datetime.fromtimestamp(self.epoch_ms / 1000, UTC).isoformat(),
            "epoch_ms": round(self.epoch_ms, 1),
            "answered_ms": self.answered_ms,
            "answer_to_first_sound_ms": None if first is None else round(first, 1),
            "utterances": self._utterances,
            "bot_spurts": self._spurts,
            "turns": self._turns,
            "barge_ins": self._barge_ins,
            "streams": self._streams,
            "drops": self._drops,
            "output": self.output.record(),
            "webhooks": self._webhooks,
            "caller": self._notes,
            "protocol_errors": self.protocol_errors,
        }


def spread(values: Iterable[float | None]) -> dict[str, Any]:
    """Count and percentiles of durations in milliseconds, without those that are None."""
    distribution = Distribution()
    for value in values:
        if value is not None:
            distribution.add(value)
    figures = distribution.record()
    del figures["histogram"]
    return figures


def together(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of many calls as one."""
    calls = list(records)
    pooled = {name: Distribution() for name in ("jitter_ms", "lateness_ms")}
    audio_ms = underrun_ms = 0
    for call in calls:
        output = call["output"]
        audio_ms += output["audio_ms"]
        underrun_ms += output["underrun_ms"]
        for name, distribution in pooled.items():
            distribution.merge(Distribution({int(ms): n for ms, n in output[name]["histogram"].items()}))
    return {
        "calls": len(calls),
        "statuses": dict(Counter(str(call.get("status", "")) for call in calls)),
        "turns": sum(len(call["turns"]) for call in calls),
        "answered_turns": sum(turn["voice_to_voice_ms"] is not None for call in calls for turn in call["turns"]),
        "voice_to_voice_ms": spread(turn["voice_to_voice_ms"] for call in calls for turn in call["turns"]),
        "answer_to_first_sound_ms": spread(call["answer_to_first_sound_ms"] for call in calls),
        "barge_in_clear_ms": spread(each["clear_after_ms"] for call in calls for each in call["barge_ins"]),
        "barge_in_silence_ms": spread(each["silence_after_ms"] for call in calls for each in call["barge_ins"]),
        "drops": sum(len(call["drops"]) for call in calls),
        "sound_after_drop_ms": spread(drop["sound_after_ms"] for call in calls for drop in call["drops"]),
        "bot_spurts": sum(len(call["bot_spurts"]) for call in calls),
        "jitter_ms": pooled["jitter_ms"].record(),
        "lateness_ms": pooled["lateness_ms"].record(),
        "audio_ms": audio_ms,
        "underrun_share": underrun_ms / (audio_ms + underrun_ms) if audio_ms else 0.0,
        "webhook_ms": spread(hook["took_ms"] for call in calls for hook in call["webhooks"]),
    }
