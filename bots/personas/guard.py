"""The guard of what users write about their personas: what is refused at once, with the sentence that says why.

It reads every text the way somebody would who wants to get around it: lower case, accents, look-alike letters, digits
in place of letters, marks and blanks inside words make no difference. What is refused stands in `guard.toml`: an order
to deny being an AI, to pass for somebody who exists or holds an office, to switch off a rule of the house.

It is the first of two walls. What slips past it is still only data to the model (`of_user.py`), and what a caller may
always do and learn never reaches the model at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

FILE = Path(__file__).with_name("guard.toml")
Kind = Literal["denies-ai", "house-rules", "secrets", "minors", "official", "real-person"]
Field = Literal["name", "description", "prompt"]

_STRAYS = (
    "who|whose|of|to|with|about|like|against|for|from|not|never|because|when|if|that|on|in|at|by|near|after|before"
)
_ALIKE = str.maketrans("аеёорсухіјѕкмтнвαοεινρτυχηβκıøłđ", "aeeopcyxijskmthbaoeivptuxnbkiold")  # look like Latin
_LEET = str.maketrans("013457@$", "oieastas")
_ENDS = re.compile(r"[.!?;:\u3002\uff01\uff1f](?=\s)|[\r\n]")  # of sentences
_MARKS = re.compile(r"[^\w|]+|_+")
_SPELT = re.compile(r"(?<=\b\w)[ .*_-](?=\w\b)")  # between single letters
_NAMED = re.compile(r"{([a-z_]+)}")


class Refusal(msgspec.Struct, frozen=True):
    """Why a persona is not taken: the rule, the field that breaks it, and a sentence for whoever wrote it."""

    kind: Kind
    field: Field
    sentence: str


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is refused for one reason: patterns of names, and of names, descriptions and prompts."""

    kind: Kind
    sentence: str
    texts: tuple[str, ...]
    names: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: dict[str, str]
    rules: tuple[Rule, ...]
    spoken: tuple[str, ...]


def judge(name: str, description: str, prompt: str) -> Refusal | None:
    """The first reason why a persona of these texts is not taken; None where there is none."""
    written: tuple[tuple[Field, str], ...] = (("name", name), ("description", description), ("prompt", prompt))
    for field, text in written:
        for reading in _readings(text):
            for rule, of_texts, of_names in _compiled():
                if of_texts.search(reading) or (field == "name" and of_names is not None and of_names.search(reading)):
                    return Refusal(rule.kind, field, rule.sentence)
    return None


def denies(clause: str) -> bool:
    """Whether a model's words would pass for a human being's, whatever made it say them."""
    return bool(_spoken().search(_plain(clause)))


def _readings(written: str) -> Iterator[str]:
    """The ways in which a text may be meant: as it stands, with digits read as letters, with blanks taken out."""
    unmasked = re.sub(r"\S+", lambda word: _unmask(word[0]), written)
    yield from dict.fromkeys((_plain(written), _plain(unmasked), _plain(_SPELT.sub("", unmasked))))


def _unmask(word: str) -> str:
    """A word whose digits and marks stand for letters; a number stays one."""
    letters = sum(c.isalpha() for c in word)
    return word.translate(_LEET) if letters and letters < len(word) else word


def _plain(text: str) -> str:
    text = _ENDS.sub(" | ", text.replace("|", " "))
    text = unicodedata.normalize("NFKD", text).casefold().translate(_ALIKE)
    kept = (c for c in text if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    words = " ".join(_MARKS.sub(" ", "".join(kept).replace("'", "").replace("’", "")).split())
    return re.sub(r"\ba i\b", "ai", words)


@lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[Rule, re.Pattern[str], re.Pattern[str] | None], ...]:
    file, words = _file()
    return tuple(
        (rule, _either(rule.texts, words), _either(rule.names, words) if rule.names else None) for rule in file.rules
    )


@lru_cache(maxsize=1)
def _spoken() -> re.Pattern[str]:
    file, words = _file()
    return _either(file.spoken, words)


def _file() -> tuple[_File, dict[str, str]]:
    file = msgspec.toml.decode(FILE.read_bytes(), type=_File)
    return file, {name: f"(?:{_one_line(text)})" for name, text in file.words.items()}


def _one_line(alternatives: str) -> str:
    """Alternatives with blanks around their bars, over several lines, as a regular expression has them."""
    return re.sub(r"\s+\|\s+", "|", alternatives.strip())


def _either(patterns: tuple[str, ...], words: dict[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_regex(pattern, words)})" for pattern in patterns))


def _regex(pattern: str, words: dict[str, str]) -> str:
    """A pattern of `guard.toml` as a regular expression; the head of that file tells the notation."""
    made, open_end = "", True  # whether what was made so far waits for the next word, blanks included
    for token in _tokens(pattern):
        if token.startswith("~"):
            made, open_end = rf"{made}\b[^|]{{0,{token[1:]}}}?\b", True
            continue
        made += "" if open_end else " "
        if token.startswith("<"):
            word = rf"(?!(?:{_STRAYS})\b)\w+ " if token[1] == ":" else r"\w+ "
            made, open_end = f"{made}(?:{word}){{0,{token.strip('<:>')}}}?", True
        elif token.endswith("}*"):
            made, open_end = f"{made}(?:{words[token[1:-2]]} )*", True
        else:
            made, open_end = made + _NAMED.sub(lambda name: words[name[1]], token), False
    start = "" if made.startswith("^") else r"\b"
    return start + made + ("" if open_end else r"\b")


def _tokens(pattern: str) -> Iterator[str]:
    """The parts of a pattern between its blanks; blanks in brackets divide nothing."""
    token, depth = "", 0
    for character in pattern:
        depth += (character == "(") - (character == ")")
        if character == " " and not depth:
            yield token
            token = ""
        else:
            token += character
    yield token
