"""Whom somebody in a crisis can turn to, by country."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

import msgspec

DATA = Path(__file__).with_name("helplines.toml")


class Helpline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A helpline. `say` is its number as a voice says it; `country` is empty for the one that is for everybody."""

    country: str
    name: str
    number: str
    say: str
    hours: str
    url: str
    emergency: str


@functools.cache
def helplines(path: Path = DATA) -> dict[str, Helpline]:
    """Every helpline we know, by country.

    Raises:
        msgspec.ValidationError: the file is not as it must be.
    """
    found = msgspec.convert(tomllib.loads(path.read_text())["helpline"], list[Helpline])
    return {line.country: line for line in found}


def helpline_for(country: str) -> Helpline:
    """The helpline of a country, or else the one for everybody. Never fails for want of a country."""
    known = helplines()
    return known.get(country.upper(), known[""])
