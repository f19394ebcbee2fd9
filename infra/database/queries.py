"""Named SQL statements, read from `queries/NOUN.sql`.

A statement is what follows a line `-- name: by carrier sid`, up to the next such line; in Python it is the
attribute `by_carrier_sid`. Text before the first name is a comment on the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).with_name("queries")
NAME_LINE = re.compile(r"^--\s*name:\s*(.*?)\s*$", re.MULTILINE)
NAME = re.compile(r"[a-z][a-z0-9_ -]*")


class QueryError(Exception):
    """A file of queries cannot be used as written, or lacks a query that the code asks for."""


class Queries:
    """The statements of one file, by name."""

    def __init__(self, noun: str, statements: dict[str, str]) -> None:
        self._noun = noun
        self._statements = statements

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            close = difflib.get_close_matches(name, self._statements, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise AttributeError(f"queries/{self._noun}.sql has no query named {name}{hint}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)


def load(noun: str, *needed: str, folder: Path = FOLDER) -> Queries:
    """The queries of `queries/NOUN.sql`.

    A caller that lists the names it `needed` is told at once, while its module is imported, when one is
    missing or one in the file is used by nobody.

    Raises:
        QueryError: no such file, a name that is malformed, doubled or empty, or a difference from `needed`.

    """
    path = folder / f"{noun}.sql"
    if not path.is_file():
        raise QueryError(f"There is no {path.name} in {folder}: create it or load another noun.")
    _, *parts = NAME_LINE.split(path.read_text())
    statements: dict[str, str] = {}
    for said, text in zip(parts[::2], parts[1::2], strict=True):
        if not NAME.fullmatch(said):
            raise QueryError(f"{path.name}: {said!r} is no name for a query; use lower-case words.")
        name = re.sub(r"[ -]+", "_", said)
        if name in statements:
            raise QueryError(f"{path.name}: the name {said!r} is used twice; rename one.")
        if not re.sub(r"--.*", "", text).strip(" \n;"):
            raise QueryError(f"{path.name}: {said!r} has no statement; write one or remove the name.")
        statements[name] = text.strip().rstrip(";")
    if not statements:
        raise QueryError(f"{path.name} names no query; begin each with a line '-- name: what it does'.")
    if needed and (missing := sorted(set(needed) - set(statements))):
        raise QueryError(f"{path.name} lacks {', '.join(missing)}; it has {', '.join(sorted(statements))}.")
    if needed and (unused := sorted(set(statements) - set(needed))):
        raise QueryError(f"{path.name}: nobody uses {', '.join(unused)}; remove them or list them in load().")
    return Queries(noun, statements)
