"""Passwords are hashed as OWASP asks, beside the event loop, and the answer takes as long whoever is asked about."""

from __future__ import annotations

import asyncio

import pytest
from argon2 import extract_parameters
from argon2.low_level import Type

from infra.identity import passwords
from infra.identity.passwords import Passwords, TooManyAtOnce, WeakPassword, check_strength


async def test_a_hash_is_argon2id_at_the_owasp_setting() -> None:
    """COM-24: 19 MiB, two passes, one lane."""
    hashing = Passwords()
    made = extract_parameters(await hashing.hash("correct horse battery"))
    assert (made.type, made.memory_cost, made.time_cost, made.parallelism) == (Type.ID, 19 * 1024, 2, 1)
    assert not hashing.is_old(await hashing.hash("correct horse battery"))
    hashing.close()


async def test_a_password_is_known_again_however_its_letters_were_typed() -> None:
    """COM-24: what looks the same is the same; what is not there is never right."""
    hashing = Passwords()
    kept = await hashing.hash("caf\u00e9 au lait")
    assert await hashing.verify(kept, "cafe\u0301 au lait")
    assert not await hashing.verify(kept, "cafe au lait")
    assert not await hashing.verify(None, "nobody's password")
    assert not await hashing.verify("no hash at all", "x")
    hashing.close()


async def test_a_crowd_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-24, COM-04: what waits is bounded."""
    monkeypatch.setattr(passwords, "WAITING_MAX", 2)
    hashing = Passwords()
    waiting = [asyncio.create_task(hashing.hash("correct horse battery")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyAtOnce):
        await hashing.hash("correct horse battery")
    assert all(await asyncio.gather(*waiting))
    hashing.close()


async def test_the_loop_turns_on_while_passwords_are_hashed() -> None:
    """COM-24: hashing is no work of the loop, which takes many turns meanwhile."""
    hashing = Passwords()
    task = asyncio.create_task(hashing.hash("correct horse battery"))
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10
    hashing.close()


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("short", "shorter than 10"),
        ("x" * 201, "longer than 200"),
        ("Password1234", "guesses this"),
        ("aaaaaaaaaaaa", "guesses this"),
        ("ada.lovelace", "your e-mail address"),
        ("ADA.Lovelace@example.com", "your e-mail address"),
    ],
)
def test_what_is_guessed_first_is_refused(password: str, sentence: str) -> None:
    """COM-24, CMB-12: and the sentence says why."""
    with pytest.raises(WeakPassword, match=sentence):
        check_strength(password, "ada.lovelace@example.com")
