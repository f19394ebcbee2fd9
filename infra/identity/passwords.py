"""Passwords: argon2id at the OWASP setting, in threads of its own (COM-24).

A hash takes some 16 ms and 19 MiB: on the event loop it would be a dropped frame of every call beside it, and without
a bound a crowd of sign-ins would be a crowd of gigabytes.
"""

from __future__ import annotations

import asyncio
import functools
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")
MEMORY_KIB = 19 * 1024
PASSES = 2
LANES = 1
THREADS = 2
WAITING_MAX = 64  # one more would wait longer than a person does
SHORTEST, LONGEST = 10, 200
# What is tried first; each is long enough to pass for a password.
COMMON = frozenset(
    {
        "0123456789", "1111111111", "1234567890", "12345678910", "123456789a", "1q2w3e4r5t", "1qaz2wsx3edc",
        "abcdefghij", "adminadmin", "changeme123", "iloveyou123", "letmein123", "password01", "password10",
        "password12", "password123", "password1234", "passwordpassword", "q1w2e3r4t5", "qwerty1234", "qwerty12345",
        "qwertyuiop", "welcome123", "welcome1234",
    }
)  # fmt: skip


class WeakPassword(Exception):
    """The password is too short, too long, too common, or part of the account; the message says which."""


class TooManyAtOnce(Exception):
    """So many passwords are being checked that this one would wait too long. Try again in a moment."""


def check_strength(password: str, email: str) -> None:
    """Refuse what is guessed first.

    Raises:
        WeakPassword
    """
    text = _normal(password)
    folded = text.casefold()
    if len(text) < SHORTEST:
        raise WeakPassword(f"The password is shorter than {SHORTEST} characters.")
    if len(text) > LONGEST:
        raise WeakPassword(f"The password is longer than {LONGEST} characters.")
    if folded in COMMON or len(set(folded)) < 4:
        raise WeakPassword("Everybody guesses this password first.")
    if folded in (email.casefold(), email.casefold().partition("@")[0]):
        raise WeakPassword("The password is your e-mail address.")


class Passwords:
    """Hashes and verifies passwords off the event loop; close it when the server stops."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._dummy: str | None = None

    async def hash(self, password: str) -> str:
        """The password's hash, to be kept.

        Raises:
            TooManyAtOnce
        """
        return await self._run(functools.partial(self._hasher.hash, _normal(password)))

    async def verify(self, kept: str | None, given: str) -> bool:
        """Whether `given` is the password of this hash; without a hash it takes as long, and is not.

        Raises:
            TooManyAtOnce
        """
        return await self._run(functools.partial(self._verify, kept, _normal(given)))

    def is_old(self, kept: str) -> bool:
        """Whether the hash was made at another setting, and should be made anew at the next sign-in."""
        return self._hasher.check_needs_rehash(kept)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, kept: str | None, given: str) -> bool:
        if kept is None and self._dummy is None:
            self._dummy = self._hasher.hash("nobody's password")
        try:
            return self._hasher.verify(kept or self._dummy or "", given) and kept is not None
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise TooManyAtOnce("Too many passwords are being checked.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """One spelling of what looks the same (NIST SP 800-63B section 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
