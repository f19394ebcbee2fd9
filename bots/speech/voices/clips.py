"""Clips: sentences synthesised once and kept, in memory and on disk, so that the first sound follows the answer.

A template process calls `prepare` before it forks; its children share the clips copy-on-write.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

log = structlog.get_logger()
MOST_CLIPS = 512  # in memory beyond the prepared ones; some 40 kB each
VERSION = "1"  # part of every file's name: a change of the synthesis makes old files useless


class Word(msgspec.Struct, frozen=True, array_like=True):
    """A word and the byte of its clip at which it has been said."""

    text: str
    ends: int


class Clip(msgspec.Struct, frozen=True, array_like=True):
    """Speech: 8 kHz PCM and its words in order."""

    pcm: bytes
    words: tuple[Word, ...]


S = TypeVar("S", bound=msgspec.Struct)


class ClipCache:
    """Clips by text and style. Thread-safe; `folder` keeps prepared ones beyond the process (None: memory only)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._prepared: dict[str, Clip] = {}
        self._recent: OrderedDict[str, Clip] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str, style: msgspec.Struct) -> Clip | None:
        """The clip, if it is in memory."""
        key = _key(text, style)
        return self._prepared.get(key) or self._recent.get(key)

    def make(self, text: str, style: S, speak: Callable[[str, S], Clip]) -> Clip:
        """Synthesise and keep for a while. Blocks."""
        clip = speak(text, style)
        with self._lock:
            self._recent[_key(text, style)] = clip
            while len(self._recent) > MOST_CLIPS:
                self._recent.popitem(last=False)
        return clip

    def prepare(self, texts: Iterable[str], style: S, speak: Callable[[str, S], Clip]) -> int:
        """Have these texts ready for good, from disk or made now; returns how many had to be made. Blocks."""
        made = 0
        for text in texts:
            key = _key(text.strip(), style)
            if key in self._prepared:
                continue
            clip = self._read(key)
            if clip is None:
                clip = speak(text.strip(), style)
                self._write(key, clip)
                made += 1
            self._prepared[key] = clip
        return made

    def _path(self, key: str) -> Path | None:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.clip" if self._folder else None

    def _read(self, key: str) -> Clip | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=Clip)
        except (msgspec.MsgspecError, OSError) as error:
            log.warning("clip_unreadable", path=str(path), error=str(error))
            return None

    def _write(self, key: str, clip: Clip) -> None:
        path = self._path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(msgspec.msgpack.encode(clip))
            part.replace(path)
        except OSError as error:  # a full disk costs the cache, not the call
            log.warning("clip_not_kept", path=str(path), error=str(error))


def cut(clip: Clip, most: int) -> Iterator[tuple[bytes, str, int]]:
    """The clip in playing order: pieces of at most `most` bytes, each with the word it completes, if any."""
    at = 0
    for word in (*clip.words, Word("", len(clip.pcm))):
        while word.ends - at > most:
            yield clip.pcm[at : at + most], "", at + most
            at += most
        ends = max(at, word.ends)
        if word.text or ends > at:
            yield clip.pcm[at:ends], word.text, ends
        at = ends


def _key(text: str, style: msgspec.Struct) -> str:
    return f"{VERSION} {style!r} {text.strip()}"
