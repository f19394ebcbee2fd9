"""Words of somebody in danger: what makes a call leave its persona and name a helpline (CMB-07).

It errs towards hearing danger: a helpline named in vain costs a sentence. Phrases are matched on folded text, so that
case, marks, accents and, in Korean, spaces make no difference. Nothing that was heard is logged here or by callers.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Protocol

# What somebody says who thinks of dying or of hurting themselves, in the spelling that `fold` leaves.
ENGLISH = (
    r"kill(ing)? my ?self",
    r"(end|ending|take|taking) my (own )?life",
    r"end it all",
    r"(want|wanted|wanna|going|ready|rather) (to )?(die|be dead)\b",
    r"wish (that )?i (was|were) dead",
    r"(do not|don't|dont|never) (want to|wanna) (live|be alive|wake up|exist)",
    r"no (reason|point) (to|in) (live|living|go on|going on)",
    r"(can not|cannot|can't|cant) go on (living|anymore|any more|any longer|like this)",
    r"better off (dead|without me)",
    r"suicid(e|al)",
    r"(hurt|hurting|harm|harming|cutting) my ?self",
    r"self harm",
)
TURKISH = (
    r"kendimi oldur",
    r"kendime zarar ver",
    r"kendime kiy",
    r"canima kiy",
    r"intihar",
    r"olmek isti(yo|yorum)",
    r"keske ols(em|eydim)",
    r"yasamak iste?mi(yo|yorum)",
    r"hayatima son ver",
    r"yasamanin (bir )?anlami yok",
)
KOREAN = (
    r"죽고싶",
    r"죽어버리",
    r"죽을래",
    r"자살",
    r"자해",
    r"살고싶지않",
    r"살기싫",
    r"목숨을끊",
    r"사라지고싶",
    r"살이유가없",
)
GRAMMAR = ("i want to die", "i want to kill myself", "i do not want to live anymore", "i am going to hurt myself")
"""What an offline recogniser that knows whole phrases only is told to listen for."""

_SPACED = re.compile("|".join(rf"\b(?:{phrase})" for phrase in (*ENGLISH, *TURKISH)))
_UNSPACED = re.compile("|".join(KOREAN))
_LETTERS = str.maketrans({"İ": "i", "I": "i", "ı": "i", "’": "'", "‘": "'"})


class Detector(Protocol):
    """Tells whether somebody is in danger by what they say."""

    def hears(self, words: str) -> bool:
        """Whether these words call for help. Whatever it raises is taken as not knowing."""
        ...


class Phrases:
    """Knows what people in danger say in English, Turkish and Korean, whichever language the call is held in."""

    def hears(self, words: str) -> bool:
        text = fold(words)
        return bool(_SPACED.search(text) or _UNSPACED.search(text.replace(" ", "")))


def fold(words: str) -> str:
    """Words as they are compared: small letters without accents, straight apostrophes, single spaces."""
    apart = unicodedata.normalize("NFKD", words.translate(_LETTERS).casefold())
    bare = "".join(c for c in apart if not unicodedata.combining(c)).translate(_LETTERS)
    whole = unicodedata.normalize("NFC", bare)  # Hangul was taken apart into its letters, too
    return " ".join(re.sub(r"[^\w' ]+", " ", whole).split())
