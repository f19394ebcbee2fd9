"""Reading streamed replies: any cut of the bytes gives the same deltas, any rubbish a typed error."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.models.clauses import split
from bots.models.port import (
    BadReply,
    Delta,
    Denied,
    Done,
    Message,
    ModelError,
    Overloaded,
    RateLimited,
    Rejected,
    Request,
    Text,
    Tool,
    ToolCall,
    Usage,
    from_status,
)
from bots.models.wire import ReplyReader, body


def _chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **rest: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'id': 'x', 'choices': choices} | rest)}\n\n".encode()


def _read(data: bytes) -> list[Delta]:
    reader = ReplyReader("p")
    return [*reader.feed(data), *reader.end()]


STREAM = b"".join(
    (
        b": keep-alive\r\n\r\n",
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"reasoning": "let me think"}),
        _chunk({"content": "Grüß "}).replace(b"\n", b"\r\n"),
        _chunk({"content": "Gott."}),
        _chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "book", "arguments": ""}}]}),
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"day":'}}]}),
        _chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"sat"}'}}]}),
        _chunk({}, "tool_calls"),
        _chunk(None, usage={"prompt_tokens": 3, "completion_tokens": 5}),
        b"data: [DONE]\n\n",
    )
)
DELTAS: list[Delta] = [
    Text("Grüß "),
    Text("Gott."),
    ToolCall("a", "book", '{"day":"sat"}'),
    Done("tool_calls", Usage(3, 5)),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_however_the_bytes_are_cut_the_reply_is_the_same(cuts: list[int]) -> None:
    """ASP-013."""
    reader = ReplyReader("p")
    deltas: list[Delta] = []
    edges = [0, *sorted(cuts), len(STREAM)]
    for begin, end in pairwise(edges):
        deltas += reader.feed(STREAM[begin:end])
    assert deltas == DELTAS
    assert reader.finished


@given(st.binary(max_size=300))
def test_rubbish_is_a_typed_error_and_nothing_else(rubbish: bytes) -> None:
    """ASP-013."""
    with pytest.raises(ModelError):
        _read(b"data: " + rubbish + b"\n\n")


def test_a_stream_without_an_end_is_no_reply() -> None:
    reader = ReplyReader("p")
    assert reader.feed(_chunk({"content": "Hel"})) == [Text("Hel")]
    with pytest.raises(BadReply, match="in the middle"):
        reader.end()


def test_an_endless_line_is_given_up() -> None:
    with pytest.raises(BadReply, match="1 MiB"):
        _read(b"x" * 2_000_000)


def test_an_error_inside_the_stream_is_typed_by_its_status() -> None:
    with pytest.raises(RateLimited):
        ReplyReader("p").feed(b'data: {"error": {"message": "slow down"}, "status_code": 429}\n\n')
    with pytest.raises(Overloaded):
        ReplyReader("p").feed(b'data: {"error": "boom"}\n\n')


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, Rejected, False),
        (401, Denied, False),
        (402, Denied, False),
        (403, Denied, False),
        (404, Rejected, False),
        (408, Overloaded, True),
        (422, Rejected, False),
        (429, RateLimited, True),
        (500, Overloaded, True),
        (503, Overloaded, True),
        (529, Overloaded, True),
    ],
)
def test_errors_are_typed_by_whether_asking_again_may_help(
    status: int, kind: type[ModelError], retryable: bool
) -> None:
    """COM-82."""
    error = from_status(status, "text", {"retry-after": "7"}, "p")
    assert type(error) is kind
    assert error.retryable is retryable
    if kind is RateLimited:
        assert error.retry_after == 7.0


def test_a_request_carries_messages_tools_and_asks_for_usage() -> None:
    call = ToolCall("a", "book", "{}")
    request = Request(
        (Message("user", "hi"), Message("assistant", "", (call,)), Message("tool", "done", tool_call_id="a")),
        (Tool("book", "Books.", {"type": "object"}),),
    )
    asked = json.loads(json.dumps(body(request, "m")))
    assert asked["stream_options"] == {"include_usage": True}
    assert asked["messages"][1]["tool_calls"][0]["function"] == {"name": "book", "arguments": "{}"}
    assert asked["messages"][2]["tool_call_id"] == "a"
    assert asked["tools"][0]["function"]["parameters"] == {"type": "object"}


def test_the_first_clause_is_short_and_later_ones_are_not_scraps() -> None:
    """CMB-27."""
    text = "Well, that sounds lovely, really. I like it, a lot, too. At 10:30, 3.5 miles, Dr. Miller comes."
    assert split(text) == (
        "Well, that sounds lovely,",
        "really.",
        "I like it, a lot, too.",
        "At 10:30, 3.5 miles, Dr. Miller comes.",
    )  # fmt: skip


@given(st.lists(st.sampled_from(["Hi.", "a,", "so", "3.5", "Dr.", "yes!", "\n", "wait…", "x" * 40]), max_size=80))
def test_clauses_lose_no_word(words: list[str]) -> None:
    text = " ".join(words)
    clauses = split(text)
    assert " ".join(" ".join(clauses).split()) == " ".join(text.split())
    assert all(clause == clause.strip() and clause for clause in clauses)
    assert all(len(clause.split()) <= 30 for clause in clauses)
