"""Documents, signatures, faults and personas of the simulator."""

from __future__ import annotations

import argparse
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from transports.simulator import cli, persona, twiml
from transports.simulator.faults import FaultError, Faults, parse
from transports.simulator.persona import PersonaError
from transports.simulator.webhooks import sign

BASE = "https://bot.example/calls/voice?x=1"
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(params=st.dictionaries(TEXT, TEXT, max_size=8))
def test_twilios_own_validator_accepts_our_signatures(params: dict[str, str]) -> None:
    """COM: webhooks verify with the real RequestValidator."""
    url = "https://bot.example/twilio/voice?call=1&x=%20y"
    assert RequestValidator("secret").validate(url, params, sign("secret", url, params))
    assert not RequestValidator("other").validate(url, params, sign("secret", url, params))


def test_a_stream_loses_its_query_and_keeps_its_parameters() -> None:
    verbs = twiml.parse(
        '<Response><Connect action="resume?n=1" method="get"><Stream url="wss://bot.example/media/t1?lost=1" name="s">'
        '<Parameter name="ticket" value="t1"/></Stream></Connect><Say>Bye</Say></Response>',
        BASE,
    )
    stream = twiml.Stream("wss://bot.example/media/t1", "s", {"ticket": "t1"})
    assert verbs == (
        twiml.Connect(stream, "https://bot.example/calls/resume?n=1", "GET"),
        twiml.Say("Bye"),
    )


def test_relative_stream_urls_follow_the_document() -> None:
    (verb,) = twiml.parse('<Response><Connect><Stream url="/media/t"/></Connect></Response>', BASE)
    assert isinstance(verb, twiml.Connect)
    assert verb.stream.url == "wss://bot.example/media/t"
    assert verb.action == ""


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("", 12100),
        ("<Response>", 12100),
        ("<html></html>", 12100),
        ("<!DOCTYPE x><Response/>", 12100),
        ("<Response><Connect/></Response>", 12200),
        ("<Response><Stream url='wss://x'/></Response>", 12200),
        ("<Response><Connect><Stream url='ftp://x'/></Connect></Response>", 31921),
        ("<Response><Connect><Stream/></Connect></Response>", 31921),
        ("<Response><Reject reason='bored'/></Response>", 12200),
        ("<Response><Pause length='long'/></Response>", 12200),
        ("<Response><Pause><Say>x</Say></Pause></Response>", 12200),
        ("<Response><Redirect>mailto:x</Redirect></Response>", 11100),
        ("<Response><Redirect method='PUT'>/x</Redirect></Response>", 12200),
    ],
)
def test_a_wrong_document_is_refused_with_twilios_number(document: str, code: int) -> None:
    with pytest.raises(twiml.TwimlError) as refused:
        twiml.parse(document, BASE)
    assert refused.value.code == code


@given(st.text(max_size=200))
def test_no_document_can_do_worse_than_be_refused(document: str) -> None:
    try:
        twiml.parse(document, BASE)
    except twiml.TwimlError:
        return


def test_the_same_seed_gives_the_same_faults() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(parse({"kind": "webhook_drop", "probability": 0.3}))
        return [faults.strike("webhook_drop", "status-ringing") is not None for _ in range(50)]

    assert strikes(7) == strikes(7)
    assert strikes(7) != strikes(8)


def test_a_fault_strikes_as_often_and_where_it_was_told_to() -> None:
    faults = Faults()
    faults.add(parse({"kind": "webhook_late", "times": 1, "match": "status", "ms": 10, "ms_max": 20}))
    assert faults.strike("webhook_late", "voice") is None
    fault = faults.strike("webhook_late", "status-ringing")
    assert fault is not None
    assert 10 <= fault.moment_ms(random.Random(1)) <= 20
    assert faults.strike("webhook_late", "status-ringing") is None


@pytest.mark.parametrize(
    "wrong", [{"kind": "fire"}, {"kind": "stream_drop", "mode": "maybe"}, {"kind": "stream_drop", "when": 1}]
)
def test_a_fault_without_meaning_is_refused_in_words(wrong: dict[str, object]) -> None:
    with pytest.raises(FaultError):
        parse(wrong)


@pytest.mark.parametrize("name", persona.names())
def test_every_persona_that_comes_with_the_simulator_can_be_read(name: str) -> None:
    who = persona.load(name)
    assert who.name == name
    assert who.title


def test_a_friend_grants_consent_and_then_follows_the_script() -> None:
    friend = persona.load("friend")
    assert friend.replies[0].say == "Yes, you may."
    assert [step.value for step in friend.steps if step.verb == "say"] == [
        "It was a long day at work.",
        "Let us talk about the weekend.",
        "I would like to go hiking.",
        "Yes please.",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"color": "red"},
        {"steps": [{"say": "x", "wait": True}]},
        {"steps": [{"jump": 1}]},
        {"steps": [{"goto": "nowhere"}]},
        {"steps": [{"say": "x", "after": 3}]},
        {"manner": {"mood": "bad"}},
        {"pickup": {"outcome": "maybe"}},
    ],
)
def test_a_persona_without_meaning_is_refused_in_words(wrong: dict[str, object]) -> None:
    with pytest.raises(PersonaError):
        persona.parse(wrong)


def test_an_unknown_persona_is_answered_with_those_there_are() -> None:
    with pytest.raises(PersonaError, match="friend"):
        persona.load("nobody")


def test_the_switches_can_be_part_of_another_command() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    parser = cli.build_parser(commands.add_parser("simulate"))
    assert parser.parse_args(["--calls", "3", "--parrot"]).calls == 3
    assert "exit codes" in parser.format_help()


def test_switches_that_make_no_sense_are_told_apart_from_failed_calls(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--calls", "1"]) == 2
    assert cli.main(["--fault", '{"kind": "fire"}']) == 2
    assert cli.main(["--persona", "nobody"]) == 2
    assert "--webhook" in capsys.readouterr().err
