"""Cursors come back as they were made, and nothing else is taken for one."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cursors import CURSOR_CHARS, CursorUnreadable, cursor_of, key_of

AT = st.datetimes(min_value=dt.datetime(2000, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001 - bounds are naive


@given(at=AT, number=st.integers(0, 2**53), name=st.text(max_size=40))
def test_a_cursor_gives_its_key_back_to_the_microsecond(at: dt.datetime, number: int, name: str) -> None:
    """COM-32: the next page begins exactly where the last one ended."""
    cursor = cursor_of(at, number, name)
    assert key_of(cursor, dt.datetime, int, str) == (at, number, name)
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#% ")


@given(st.text(max_size=80))
def test_what_is_no_cursor_is_refused_and_never_breaks(text: str) -> None:
    """COM-31, CMB-12: whatever is sent as a cursor is read or refused."""
    with contextlib.suppress(CursorUnreadable):
        assert len(key_of(text, dt.datetime, str)) == 2


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "a",
        "é",
        cursor_of("one"),
        cursor_of("one", "two", "three"),
        cursor_of("not a date", "call_1"),
        base64.urlsafe_b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(b"null").decode(),
        "A" * (CURSOR_CHARS + 1),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    with pytest.raises(CursorUnreadable):
        key_of(cursor, dt.datetime, str)
