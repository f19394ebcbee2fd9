"""How words are said, in the phones of the recogniser's model: by its dictionary, else by eSpeak NG's rules."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pocketsphinx

from bots.speech.voices.espeak import espeak

MODEL = Path(pocketsphinx.get_model_path()) / "en-us"
_WORD = re.compile(r"[a-z][a-z']*")
_MARKS = str.maketrans("", "", "ˈˌːˑ‿ˀ̩̃ʲ")

# IPA as eSpeak NG writes American English, in the ARPAbet phones of the CMU dictionary.
_PHONES = {
    "ɑ": "AA", "æ": "AE", "a": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔ": "AO", "ɒ": "AA",
    "aʊ": "AW", "aɪ": "AY", "b": "B", "tʃ": "CH", "d": "D", "ð": "DH", "ɛ": "EH", "e": "EH",
    "ɜ": "ER", "ɚ": "ER", "ɝ": "ER", "eɪ": "EY", "f": "F", "ɡ": "G", "g": "G", "h": "HH",
    "ɪ": "IH", "ᵻ": "IH", "i": "IY", "dʒ": "JH", "k": "K", "l": "L", "ɫ": "L", "m": "M",
    "n": "N", "ŋ": "NG", "oʊ": "OW", "o": "OW", "ɔɪ": "OY", "p": "P", "ɹ": "R", "r": "R",
    "s": "S", "ʃ": "SH", "t": "T", "ɾ": "T", "ʔ": "T", "θ": "TH", "ʊ": "UH", "u": "UW",
    "v": "V", "w": "W", "j": "Y", "z": "Z", "ʒ": "ZH", "x": "K", "ç": "HH",
    "əl": "AH L", "aɪɚ": "AY ER", "aɪə": "AY AH", "ɑɹ": "AA R", "ɔɹ": "AO R", "oɹ": "AO R",
    "ɛɹ": "EH R", "ɪɹ": "IH R", "ʊɹ": "UH R", "iə": "IY AH", "n̩": "AH N",
}  # fmt: skip


class UnpronounceableError(Exception):
    """A phrase holds something that is not a word. Write numbers and signs out, in lower case letters."""


@lru_cache(maxsize=1)
def _dictionary() -> bytes:
    return b"\n" + (MODEL / "cmudict-en-us.dict").read_bytes()


@lru_cache(maxsize=4096)
def pronunciations(word: str) -> tuple[str, ...]:
    """The ways to say `word`, the usual one first, as phones parted by spaces.

    Raises:
        UnpronounceableError: it is not a word of lower case letters and apostrophes, or eSpeak NG cannot say it.
    """
    if not _WORD.fullmatch(word):
        raise UnpronounceableError(f"{UnpronounceableError.__doc__} The recogniser cannot listen for {word!r}.")
    text, name = _dictionary(), word.encode()
    found: list[str] = []
    at = text.find(b"\n" + name + b" ")
    while at >= 0:
        end = text.index(b"\n", at + 1)
        line = text[at + 1 : end]
        if line.split(b" ", 1)[0].split(b"(")[0] != name:
            break
        found.append(line.split(b" ", 1)[1].decode().strip())
        at = end
    return tuple(found) or (_by_rule(word),)


def _by_rule(word: str) -> str:
    phones: list[str] = []
    for symbol in espeak().phonemes(word):
        plain = symbol.translate(_MARKS)
        if not plain:
            continue
        if plain not in _PHONES:
            raise UnpronounceableError(f"{UnpronounceableError.__doc__} The recogniser cannot listen for {word!r}.")
        phones.append(_PHONES[plain])
    if not phones:
        raise UnpronounceableError(f"{UnpronounceableError.__doc__} The recogniser cannot listen for {word!r}.")
    return " ".join(phones)
