"""The working memory of a call: what of a long conversation a model is shown for its next reply.

The last turns are always there. Of what was said before them, the turns that share most of their rarer words with the
newest ones are looked up. The memory is the record itself, so it lives and dies with the call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bots.crisis import fold
from bots.record import Turn

RECENT_TURNS = 60  # some ten minutes of talk
FOUND_TURNS = 6
ASKING_TURNS = 2  # the newest turns that are looked up by
LEAST_LETTERS = 3  # shorter words tell nothing


@dataclass(frozen=True, slots=True)
class Recalled:
    """The turns that are shown: those `found` from long ago, in order, and the `recent` ones."""

    found: tuple[Turn, ...]
    recent: tuple[Turn, ...]


def recall(turns: Sequence[Turn], recent: int = RECENT_TURNS, most: int = FOUND_TURNS) -> Recalled:
    """What to show of a conversation; all of it as long as it is short."""
    earlier, late = tuple(turns[:-recent]), tuple(turns[-recent:])
    if not earlier:
        return Recalled((), late)
    wanted = set().union(*(_words(turn) for turn in late[-ASKING_TURNS:]))
    frequency = Counter(word for turn in earlier for word in _words(turn))
    closeness = {
        turn.number: sum(1 / frequency[word] for word in _words(turn) & wanted)
        for turn in earlier
        if turn.who == "caller" or turn.spoken
    }
    best = sorted((number for number, score in closeness.items() if score > 0), key=lambda n: (-closeness[n], -n))
    chosen = set(best[:most])
    return Recalled(tuple(turn for turn in earlier if turn.number in chosen), late)


def _words(turn: Turn) -> set[str]:
    said = turn.text if turn.who == "caller" else turn.spoken
    return {word for word in fold(said).split() if len(word) >= LEAST_LETTERS}
