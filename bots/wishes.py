"""What anybody may say to any persona, in more words than a script lists: leave me alone, and what are you?"""

from __future__ import annotations

import re

from bots.crisis import fold

_STOP = re.compile(
    "|".join(
        (
            r"\b(stop|quit) calling( me| us| here| this number|$)",
            r"\b(never|don't|dont|do not) (you )?(ever )?(call|phone|ring) (me |us |here |this number )?"
            r"(again|anymore|any more|any longer|ever)\b",
            r"\b(take|remove) (me|my (phone )?number|this number) (off|from)\b",
            r"\b(don't|dont|do not|never) call (me|this number)$",
            r"\bi (do not|don't|dont) want (any more|anymore|any|these|your) (phone )?calls\b",
            r"\b(bir daha|artik|beni( bir daha| artik)?) arama(yin|yiniz)?\b",
            r"\barama(yi|niz[iı]?|n[iı]z[iı]?) (birak|kes|istemi)",
            r"\baranmak istemi",
        )
    )
)
_STOP_UNSPACED = re.compile(r"전화(를|좀)?(하지마|하지말|그만|걸지마|걸지말|안했으면)|그만(좀)?전화")
_FILLED = (
    r"( (really|actually|just|only|even|like|honestly|some kind of|sort of|not|a|an|the|another|actual|living|talking"
    r"|real|live|human))*"
)
_WHAT = (
    r"(machine|robot|bot|chat ?bot|computer( program)?|ai|artificial( intelligence)?|human( being)?|person|recording)"
)
_ASKS = re.compile(
    "|".join(
        (
            rf"\b(are you|you're|youre|you are|is this|am i (talking|speaking) (to|with)){_FILLED} {_WHAT}\b",
            r"\b(are you|is this) (really |actually |even |for )?real$",
            r"\b(robot|makine|bilgisayar|insan|gercek|yapay zeka|bot)( (bir )?(insan|kisi))? ?m[iu](s[iu]n(uz)?)?\b",
        )
    )
)
_ASKS_UNSPACED = re.compile(
    r"(로봇|기계|인공지능|컴퓨터|사람|ai|에이아이)(이에요|예요|인가요|입니까|이세요|이신가요|인가|이야|야|맞아요?|맞나요?)$"
)
_SLACK_WORDS = 8  # "are you human resources or the person who ..." is a question about something else


def stops(words: str) -> bool:
    """Whether somebody asks not to be called any more."""
    text = fold(words)
    return bool(_STOP.search(text) or _STOP_UNSPACED.search(text.replace(" ", "")))


def asks_what_we_are(words: str) -> bool:
    """Whether somebody asks if a machine or a person is speaking."""
    text = fold(words)
    found = _ASKS.search(text)
    if found is not None and len(text[found.end() :].split()) <= _SLACK_WORDS:
        return True
    return bool(_ASKS_UNSPACED.search(text.replace(" ", "")))
