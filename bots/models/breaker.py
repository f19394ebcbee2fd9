"""Whether a provider is asked at all: three strikes and it is out, and it comes back by itself."""

from __future__ import annotations

from typing import Literal

import msgspec

from bots.models.port import Denied, ModelError, Rejected

STRIKES = 3
COOLDOWN_S = 5.0
COOLDOWN_LIMIT_S = 60.0
EXPECTED_S = 0.25  # until we know better
EXPECTED_LEAST_S = 0.02
EXPECTED_MOST_S = 0.6  # however slow a provider is, a hedge starts well inside the second a caller bears
_STEP = 0.1
_SLOWEST_SHARE = 0.9


class Health(msgspec.Struct, frozen=True):
    """One provider as the chain sees it; times in milliseconds."""

    provider: str
    state: Literal["closed", "open", "due"]
    strikes: int
    expected_ms: float
    replies: int
    failures: int
    last_error: str


class Breaker:
    """One provider's record. Closed: it is asked. Open: it is not. Due: it is tried beside another one.

    It also learns how long the provider usually takes to its first token: `expected` drifts towards the
    time that nine replies of ten keep, which is when a hedge begins to count.
    """

    def __init__(self, provider: str, expected: float = EXPECTED_S, cooldown: float = COOLDOWN_S) -> None:
        self.provider = provider
        self.expected = expected
        self._strikes = 0
        self._cooldown = self._first_cooldown = cooldown
        self._open_until: float | None = None
        self._probing = False
        self._replies = 0
        self._failures = 0
        self._last_error = ""

    def state(self, now: float) -> Literal["closed", "open", "due"]:
        """Where the provider stands at `now`."""
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until or self._probing else "due"

    def answered(self, first_token: float) -> None:
        """The first token came after `first_token` seconds: the record is clean again."""
        self._replies += 1
        self._strikes = 0
        self._open_until = None
        self._cooldown = self._first_cooldown
        up = first_token > self.expected
        self.expected *= 1 + _STEP * (_SLOWEST_SHARE if up else _SLOWEST_SHARE - 1)
        self.expected = min(max(self.expected, EXPECTED_LEAST_S), EXPECTED_MOST_S)

    def failed(self, error: ModelError, now: float) -> None:
        """A strike, or out at once where asking again is pointless; a request we got wrong is none."""
        self._last_error = f"{error.kind}: {error}"
        self._failures += 1
        if isinstance(error, Rejected):
            return
        self._strikes += 1
        if self._open_until is not None and not self._probing:
            return  # other calls were still waiting when it went out; that is no news
        if isinstance(error, Denied) or error.retry_after or self._probing or self._strikes >= STRIKES:
            self._trip(now, error.retry_after or 0.0)

    def broke_off(self, error: ModelError, now: float) -> None:
        """It died in the middle of a reply: the next turn goes elsewhere."""
        self._last_error = f"{error.kind}: {error}"
        self._failures += 1
        self._strikes = STRIKES
        self._trip(now, 0.0)

    def begin_probe(self) -> None:
        """A probe is on its way; no second one is sent."""
        self._probing = True

    def end_probe(self) -> None:
        """The probe is over; `answered` or `failed` told how, or neither did and another one is due."""
        self._probing = False

    def health(self, now: float) -> Health:
        """The record for `status()`."""
        return Health(
            self.provider,
            self.state(now),
            self._strikes,
            round(self.expected * 1000, 1),
            self._replies,
            self._failures,
            self._last_error,
        )

    def _trip(self, now: float, at_least: float) -> None:
        self._open_until = now + max(self._cooldown, at_least)
        self._cooldown = min(self._cooldown * 2, max(COOLDOWN_LIMIT_S, self._first_cooldown))
