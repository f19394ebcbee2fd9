"""What we write to people about their accounts, in the language of the account."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from string import Template

from infra.mail import Letter

TEXTS = Path(__file__).with_name("letters.toml")
LANGUAGES = ("en", "tr", "ko")


def letter(kind: str, language: str, to: str, **values: str) -> Letter:
    """The letter of a kind, English where the language is none of ours."""
    texts = _texts()[kind]
    text = texts.get(language, texts["en"])
    return Letter(to, Template(text["subject"]).substitute(values), Template(text["text"]).substitute(values))


@functools.cache
def _texts() -> dict[str, dict[str, dict[str, str]]]:
    document: dict[str, dict[str, dict[str, str]]] = tomllib.loads(TEXTS.read_text())
    return document
