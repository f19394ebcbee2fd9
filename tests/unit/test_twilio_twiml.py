"""TwiML documents, read back as XML."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from transports.twilio.twiml import connect_stream, hang_up, pause_and_redirect, reject, say_and_hang_up

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), min_size=1)


def verbs(document: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(document))  # noqa: S314  our own document


def test_a_stream_is_connected_with_its_action_and_parameters() -> None:
    (connect,) = verbs(connect_stream("wss://a/media/t", "https://a/resume/c", {"ticket": "t", "call": "c"}))
    assert (connect.tag, connect.get("action"), connect.get("method")) == ("Connect", "https://a/resume/c", "POST")
    (stream,) = connect
    assert (stream.tag, stream.get("url")) == ("Stream", "wss://a/media/t")
    assert {p.get("name"): p.get("value") for p in stream} == {"ticket": "t", "call": "c"}


def test_the_short_documents() -> None:
    assert [verb.tag for verb in verbs(hang_up())] == ["Hangup"]
    assert [(verb.tag, verb.get("reason")) for verb in verbs(reject("busy"))] == [("Reject", "busy")]
    assert [(verb.tag, verb.get("reason")) for verb in verbs(reject("anything"))] == [("Reject", "rejected")]
    pause, redirect = verbs(pause_and_redirect("https://a/b?c=1&d=2", 3))
    assert (pause.tag, pause.get("length")) == ("Pause", "3")
    assert (redirect.tag, redirect.text) == ("Redirect", "https://a/b?c=1&d=2")


@given(PRINTABLE)
def test_no_text_breaks_out_of_its_document(text: str) -> None:
    say, end = verbs(say_and_hang_up(text))
    assert (say.tag, say.text, end.tag) == ("Say", text, "Hangup")
    (connect,) = verbs(connect_stream("wss://a", "https://a", {"name": text}))
    assert connect[0][0].get("value") == text
