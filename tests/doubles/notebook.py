"""A small API of a test's own: notes that belong to whoever wrote them, and a handler that a test can hold or break."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from infra.cursors import key_of
from infra.ids import new_id
from transports.http.api import Ask, Cookie, Operation, Page, PageQuery, Reply, operation, operation_of, page
from transports.http.problems import Problem, problem_kinds

problem_kinds({"note-not-found": (404, "There is no such note"), "note-rude": (402, "The note is rude")})
RUDE = "bother"


class NewNote(msgspec.Struct, forbid_unknown_fields=True):
    """A note to be written."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=20, examples=["buy milk"])]
    stars: Annotated[int, msgspec.Meta(ge=0, le=5)] = 0


class Note(msgspec.Struct, frozen=True):
    """A note."""

    id: str
    owner: str
    text: str


class Filter(PageQuery, kw_only=True):
    """Which notes."""

    word: Annotated[str, msgspec.Meta(max_length=20)] | None = None
    rude: bool = False


class Notebook:
    """Keeps the notes; `free` holds writers while it is cleared, `failure` is raised by the next one."""

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.keys: list[str | None] = []
        self.free, self.writing = asyncio.Event(), asyncio.Event()
        self.free.set()
        self.failure: Exception | None = None

    def operations(self) -> list[Operation]:
        """The API."""

        @operation("POST", "/v1/notes", status=201, answers=Note, refuses=("note-rude",), idempotent=True)
        async def write_note(ask: Ask, body: NewNote) -> Reply[Note]:
            """Write a note."""
            self.keys.append(ask.key)
            self.writing.set()
            await self.free.wait()
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            if body.text == RUDE:
                raise Problem("note-rude", "Write something kinder.")
            note = Note(new_id("note"), ask.user.user_id, body.text)
            self.notes.append(note)
            return Reply(note, headers={"Location": f"/v1/notes/{note.id}"})

        @operation("GET", "/v1/notes", answers=Page[Note])
        async def list_notes(ask: Ask, query: Filter) -> Page[Note]:
            """Your notes, newest first."""
            mine = sorted((note for note in self.notes if note.owner == ask.user.user_id), key=lambda n: n.id)[::-1]
            if query.after is not None:
                (last,) = key_of(query.after, str)
                mine = [note for note in mine if note.id < str(last)]
            return page(mine[: query.limit + 1], query.limit, lambda note: (note.id,), lambda note: note)

        @operation("GET", "/v1/notes/{note}", answers=Note, refuses=("note-not-found",))
        async def read_note(ask: Ask, note: str) -> Note:
            """One note of yours."""
            for found in self.notes:
                if (found.id, found.owner) == (note, ask.user.user_id):
                    return found
            raise Problem("note-not-found", "There is no such note.")

        @operation("DELETE", "/v1/notes", status=204)
        async def burn_notes(ask: Ask) -> None:
            """Burn every note of yours."""
            self.notes = [note for note in self.notes if note.owner != ask.user.user_id]

        @operation("POST", "/v1/cookies", who="public", status=204, limit="auth")
        async def bake_cookies(ask: Ask) -> Reply[None]:
            """Cookies as those of a sign-in."""
            return Reply(cookies=(Cookie("ringdown_access", "abc", 900), Cookie("ringdown_csrf", "x", 900, "/", False)))

        return [operation_of(made) for made in (write_note, list_notes, read_note, burn_notes, bake_cookies)]
