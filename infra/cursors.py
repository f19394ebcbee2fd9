"""Cursors of lists: opaque to clients, stable while rows are inserted.

A cursor is the sort key of the last row that was shown, the row's id last. The statement of the next page asks for
what lies beyond it, `where (created_at, id) < ($2, $3) order by created_at desc, id desc limit $4`, so a row that comes
in between moves nothing.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

CURSOR_CHARS = 512


class CursorUnreadable(Exception):
    """The cursor is none of ours. Begin again without `after`, or send `next` of an answer as it was."""


def cursor_of(*key: object) -> str:
    """The cursor of a row by its sort key, such as `cursor_of(call.created_at, call.id)`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def key_of(cursor: str, *types: type) -> tuple[object, ...]:
    """The sort key in a cursor, each part of the type given: `key_of(after, datetime, str)`.

    Raises:
        CursorUnreadable: it was not made by `cursor_of` with a key of these types.
    """
    if len(cursor) > CURSOR_CHARS or not cursor.isascii():
        raise CursorUnreadable("The cursor is none of ours.")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(raw, type=list)
        if len(found) != len(types):
            raise ValueError("another number of parts")
        return tuple(msgspec.convert(part, kind) for part, kind in zip(found, types, strict=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise CursorUnreadable("The cursor is none of ours.") from error
