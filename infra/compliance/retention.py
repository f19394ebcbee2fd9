"""How long we keep what, counted from when: the public table, and the numbers that the deleting goes by."""

from __future__ import annotations

import datetime as dt

import msgspec

DECISIONS = dt.timedelta(days=365)
BOOKINGS = dt.timedelta(days=365)
RECORDINGS = dt.timedelta(days=7)


class Kept(msgspec.Struct, frozen=True):
    """A class of data. `days` is None where something else than time ends it.

    Args:
        name: stable.
        data: what it is, for a person.
        counted_from: the start of its time.
        kept: how long, in words.
    """

    name: str
    data: str
    counted_from: str
    days: int | None
    kept: str


TABLE: tuple[Kept, ...] = (
    Kept("recordings", "Recordings of calls, if you agreed to them", "the end of the call", 7, "7 days"),
    Kept(
        "transcripts",
        "What was said in calls, and what it is searched by, if you agreed to it",
        "the end of the call",
        90,
        "90 days, or fewer if you set so",
    ),
    Kept("context", "What was said in calls without your agreement", "the end of the call", 0, "not at all"),
    Kept("bookings", "Calls you booked, once they are over", "the time they were booked for", 365, "365 days"),
    Kept("decisions", "Why a call was or was not allowed", "the decision", 365, "365 days"),
    Kept("do-not-call", "Numbers that asked not to be called, unreadable", "the request", None, "until withdrawn"),
    Kept("books", "What was paid, as the law asks", "the payment", 3650, "10 years"),
    Kept("proofs", "Old sign-ins, codes, letters, numbers you removed", "their end", 30, "30 days"),
    Kept("account", "Your account, numbers, personas, history", "its creation", None, "until you erase it"),
    Kept("backups", "Backups of all this", "the backup", 7, "7 days"),
)
