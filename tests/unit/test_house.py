"""What holds on every call, whoever the persona is: danger, no more calls, what are you, call me back."""

from __future__ import annotations

import datetime as dt

import pytest

from bots.callbacks import asked_back
from bots.crisis import GRAMMAR, Phrases
from bots.house import Facts, House, decision
from bots.house_lines import ENGLISH, KOREAN, TURKISH, lines_of
from bots.personas.persona import available, load
from bots.scripted import Reply, ScriptedBrain
from bots.wishes import asks_what_we_are, stops
from infra.compliance.helplines import helpline_for

DANGER = (
    "I want to die.", "I just don't want to live anymore", "i am going to kill myself", "I've been cutting myself",
    "Everybody would be better off without me.", "I think about suicide a lot", "there is no point in living",
    "Ölmek istiyorum.", "artık yaşamak istemiyorum", "İNTİHAR etmeyi düşünüyorum", "kendimi öldüreceğim",
    "kendime zarar veriyorum", "죽고 싶어요", "더 이상 살고 싶지 않아요", "자살하고 싶어", "자해를 했어요",
)  # fmt: skip
NO_DANGER = (
    "I killed it at work today", "my phone died", "what a lovely day", "I would like to live by the sea",
    "olmak istiyorum", "bugün çok güzel", "오늘 날씨가 좋네요", "I had to cut the call short",
)  # fmt: skip
ENOUGH = (
    "stop calling me", "Look, please stop calling me, okay?", "Never call me again!", "don't call me any more",
    "do not ever call me again", "take me off your list", "I don't want any more calls", "beni bir daha aramayın",
    "artık arama", "다시는 전화하지 마세요",
)  # fmt: skip
NOT_ENOUGH = ("call me again tomorrow", "I was calling my mother", "don't call me before nine", "stop talking about it")
ASKED = (
    "are you a machine", "so tell me, are you actually a real human being?", "am I talking to a robot?",
    "is this a recording", "you're not a person, are you", "are you real?", "Sen robot musun?", "insan mısın",
    "너 사람이야?", "로봇인가요?",
)  # fmt: skip
NOT_ASKED = ("you are a good person to talk to today I think and much more", "그 사람이야기 해줘", "I saw a robot")


def house(persona: str = "mia", **facts: str) -> House:
    brain = ScriptedBrain(load(persona))
    brain.opening()
    return House(brain, Facts(**facts))


def answered(one: House, heard: str) -> Reply:
    reply = one.answer(heard)
    assert reply is not None, heard
    return reply


@pytest.mark.parametrize("heard", DANGER)
def test_words_of_somebody_in_danger_are_heard_in_three_languages(heard: str) -> None:
    """CMB-07: English, Turkish and Korean, whatever the marks and the spelling of a recogniser."""
    assert Phrases().hears(heard)
    assert Phrases().hears(heard.upper().replace("’", "'"))


def test_ordinary_words_leave_the_persona_alone() -> None:
    """CMB-07: a persona that is left at every turn helps nobody."""
    assert [heard for heard in NO_DANGER if Phrases().hears(heard)] == []
    assert [heard for heard in (*NO_DANGER, *NOT_ENOUGH, *NOT_ASKED) if house().answer(heard)] == []


@pytest.mark.parametrize("persona", [name for name in available() if name != "talker"])
def test_danger_leaves_the_persona_within_one_turn_and_names_the_local_helpline(persona: str) -> None:
    """CMB-07: whichever persona it is, scripted or with a model; counted once, and the call goes on."""
    for country in ("US", "TR", "KR", "GB", ""):
        one = house(persona, country=country)
        reply = answered(one, "I want to die")
        line = helpline_for(country)
        assert line.say in reply.text
        assert " ".join(line.emergency) in reply.text
        assert reply.action == {"crisis": True}
        assert not reply.end
        assert not reply.hand_over
        assert "want to die" not in reply.text
        again = answered(one, "I want to die")
        assert again.action == {}


def test_after_the_danger_no_persona_comes_back_but_a_goodbye_still_works() -> None:
    """CMB-07: support in turns, the number again, and the caller may go whenever they like."""
    one = house("sam", country="US")
    answered(one, "I want to kill myself")
    for _ in range(4):
        reply = answered(one, "I do not know what to do")
        assert not reply.hand_over
        assert reply.text
    assert "nine eight eight" in answered(one, "and so on").text
    assert answered(one, "goodbye").end
    assert "nine eight eight" in " ".join(one.last_words())


def test_a_detector_that_fails_is_answered_with_care(caplog: pytest.LogCaptureFixture) -> None:
    """CMB-07: a safe generic reply, and nothing that was said is in the logs."""

    class Broken:
        def hears(self, words: str) -> bool:
            raise RuntimeError(words)

    brain = ScriptedBrain(load("mia"))
    brain.opening()
    one = House(brain, Facts(), Broken())
    reply = answered(one, "a very private sentence")
    assert "emergency number" in reply.text
    assert not reply.end
    assert "private" not in caplog.text


def test_the_house_remembers_over_the_death_of_its_process() -> None:
    """CMB-07, COM-15: whoever takes the call up knows that the persona was left."""
    one = house("sam", country="GB")
    reply = answered(one, "I want to die")
    flow = one.remember(reply.flow)
    other = house("sam", country="GB")
    other.restore(flow)
    assert other.in_crisis
    assert not answered(other, "hello?").hand_over
    assert answered(other, "I want to die").action == {}


@pytest.mark.parametrize("heard", ENOUGH)
def test_whoever_wants_no_more_calls_is_understood_in_their_own_words(heard: str) -> None:
    """CMB-05: in the middle of a sentence, too; the call ends politely and the number is to be noted."""
    assert stops(heard)
    for persona in ("mia", "sam"):
        reply = answered(house(persona), heard)
        assert reply.end
        assert reply.action == {"stop_calling": True}
        assert "not call you again" in reply.text


def test_a_wish_for_another_call_is_no_wish_for_none() -> None:
    """CMB-05: nobody is put on the list by a misunderstanding."""
    assert [heard for heard in NOT_ENOUGH if stops(heard)] == []


@pytest.mark.parametrize("heard", ASKED)
def test_every_persona_says_what_it_is(heard: str) -> None:
    """CMB-03: truthfully, at any moment, never left to a language model."""
    assert asks_what_we_are(heard)
    for persona in ("mia", "sam", "worried-friend"):
        reply = answered(house(persona), heard)
        assert "AI" in reply.text
        assert not reply.hand_over
        assert not reply.end


def test_other_questions_are_the_personas() -> None:
    """CMB-03: the house keeps out of the conversation."""
    assert [heard for heard in NOT_ASKED if asks_what_we_are(heard)] == []


def test_a_callback_is_proposed_confirmed_and_only_then_booked() -> None:
    """CMB-39: 'call me tomorrow at nine' yields a time that is said back, and a yes books it."""
    one = house("sam", zone="Europe/Istanbul")
    proposal = answered(one, "could you call me tomorrow at nine?")
    assert "at 9 am" in proposal.text
    assert proposal.action == {}
    other = house("sam", zone="Europe/Istanbul")
    other.restore(one.remember(proposal.flow))
    accepted = answered(other, "yes please")
    booked = dt.datetime.fromisoformat(str(accepted.action["book"]))
    assert (booked.hour, booked.minute) == (9, 0)
    assert "at 9 am" in " ".join(other.booked(True))


def test_a_callback_that_is_declined_or_passed_over_is_not_booked() -> None:
    """CMB-39: a no, another subject, or a call in which nothing can be booked."""
    one = house("sam", zone="UTC")
    answered(one, "call me again at six")
    assert "nothing is booked" in answered(one, "no thank you").text
    answered(one, "call me again at six")
    assert one.answer("tell me about the weather") is None
    assert one.answer("yes") is None
    assert house("sam").answer("call me tomorrow at nine") is None


def test_calls_of_others_are_not_wishes() -> None:
    """CMB-39: who speaks of somebody else's call is not promised one."""
    now = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
    assert asked_back("my boss will call me tomorrow at nine", now, "UTC") is None
    assert asked_back("call me some time", now, "UTC") is None
    found = asked_back("call me tomorrow at nine", now, "Europe/Istanbul")
    assert found is not None
    assert found.local.isoformat() == "2026-11-22T09:00:00"


def test_yes_and_no_are_told_apart() -> None:
    """CMB-39: neither is guessed."""
    assert decision("yes please") is True
    assert decision("no thanks") is False
    assert decision("hayır") is False
    assert decision("evet") is True
    assert decision("yes but rather no") is None
    assert decision("well that depends on how long it would be and when") is None


def test_every_language_has_every_sentence() -> None:
    """CMB-07: no field is empty and none is English by mistake."""
    for lines in (ENGLISH, TURKISH, KOREAN):
        for name in lines.__dataclass_fields__:
            assert getattr(lines, name), name
    assert lines_of("tr-TR") is TURKISH
    assert lines_of("ko") is KOREAN
    assert lines_of("de") is ENGLISH


def test_an_offline_recogniser_listens_for_danger_too() -> None:
    """CMB-07: what it listens for, the detector knows."""
    assert set(house().expects()) == set(GRAMMAR)
    assert all(Phrases().hears(phrase) for phrase in GRAMMAR)
