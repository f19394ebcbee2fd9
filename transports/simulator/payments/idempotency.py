"""Idempotency keys with Stripe's semantics: https://docs.stripe.com/api/idempotent_requests

The answer to the first request that was carried out under a key, good or bad, is the answer to every later one, for 24
hours. What was refused before it was carried out (parameters, limits, a fault in front of it) leaves the key free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .errors import ApiError, Thing
from .store import DAY_S

_LONGEST: Final = 255


@dataclass(frozen=True)
class Reply:
    """An answer as it was given."""

    status: int
    body: Thing
    request: str  # the id of the request that was carried out


@dataclass
class _Entry:
    method: str
    path: str
    params: dict[str, Any]
    since: int
    reply: Reply | None = None


class Keys:
    """Who asked what under which key."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def claim(self, key: str, method: str, path: str, params: dict[str, Any], now: int) -> Reply | None:
        """The kept answer; None if the request is to be carried out, and then the key is taken until `keep` or `free`.

        Raises:
            ApiError: the key is in use, or was used for something else.
        """
        if len(key) > _LONGEST:
            raise ApiError(400, "invalid_request_error", f"Idempotency keys can be up to {_LONGEST} characters long.")
        self._prune(now)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(method, path, params, now)
            return None
        hint = f"Try using a key other than '{key}' if you meant to execute a different request."
        if (entry.method, entry.path) != (method, path):
            raise ApiError(
                400,
                "idempotency_error",
                "Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{entry.path}' vs '{path}'). {hint}",
            )
        if entry.params != params:
            raise ApiError(
                400,
                "idempotency_error",
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                + hint,
            )
        if entry.reply is None:
            raise ApiError(
                409,
                "idempotency_error",
                "There is currently another in-progress request using this Idempotent Key (that probably means you "
                f"submitted twice, and the other request is still going through): {key}. Please try again later.",
                code="idempotency_key_in_use",
            )
        return entry.reply

    def _prune(self, now: int) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            entry = self._entries[oldest]
            if entry.reply is None or entry.since + DAY_S > now:
                return
            del self._entries[oldest]

    def keep(self, key: str, reply: Reply) -> None:
        """This is the answer from now on."""
        if entry := self._entries.get(key):  # there is none when the double was reset meanwhile
            entry.reply = reply

    def free(self, key: str) -> None:
        """Nothing was carried out."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
