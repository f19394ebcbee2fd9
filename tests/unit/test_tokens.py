"""An access token is taken as it was issued, or not at all."""

from __future__ import annotations

import base64
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.identity.tokens import DEVICE, TokenRefused, Tokens, fingerprint, random_token

SECRET = bytes(range(32))
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def tokens(audience: str | None = None, secret: bytes = SECRET, clock: Clock | None = None) -> Tokens:
    more = {"audience": audience} if audience else {}
    return Tokens(secret, 900, clock=clock or Clock(), **more)


def test_a_token_says_whose_it_is_for_fifteen_minutes() -> None:
    """COM-26: user, session, epoch and an id of its own; then it expires."""
    clock = Clock()
    issuing = tokens(clock=clock)
    token = issuing.issue("user_1", "session_1", 3)
    claims = issuing.read(token)
    assert (claims.subject, claims.session, claims.epoch) == ("user_1", "session_1", 3)
    assert issuing.read(issuing.issue("user_1", "session_1", 3)).id != claims.id
    clock.now += 899
    issuing.read(token)
    clock.now += 1
    with pytest.raises(TokenRefused, match="expired"):
        issuing.read(token)


def test_a_token_for_something_else_is_refused() -> None:
    """COM-26: cross-audience tokens, and those of another server."""
    token = tokens(DEVICE).issue("device_1", "device_1", 0)
    for reading in (tokens(), tokens(secret=bytes(32))):
        with pytest.raises(TokenRefused):
            reading.read(token)


@pytest.mark.parametrize(
    "lie",
    [
        {"iss": "somebody"},
        {"aud": "ringdown-device"},
        {"exp": "never"},
        {"epoch": "3"},
        {"sid": 7},
        {"sub": None},
        {"sid": None},
        {"epoch": None},
        {"exp": None},
        {"jti": None},
        {"iat": None},
    ],
)
def test_a_token_whose_claims_are_not_as_they_must_be_is_refused(lie: dict[str, Any]) -> None:
    """COM-26: even one that our own key signed."""
    claims = jwt.decode(tokens().issue("user_1", "session_1", 3), options={"verify_signature": False}) | lie
    claims = {name: value for name, value in claims.items() if value is not None}
    with pytest.raises(TokenRefused):
        tokens().read(jwt.encode(claims, SECRET, algorithm="HS256"))


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_a_token_that_chooses_its_own_algorithm_is_refused(algorithm: str) -> None:
    """COM-26: `none` above all."""
    claims = jwt.decode(tokens().issue("user_1", "session_1", 3), options={"verify_signature": False})
    forged = jwt.encode(claims, "" if algorithm == "none" else SECRET * 2, algorithm=algorithm)
    with pytest.raises(TokenRefused):
        tokens().read(forged)


@given(st.data())
def test_no_changed_token_is_taken(data: st.DataObject) -> None:
    """COM-26: any byte of head, claims or signature changed is a refusal, and never another error."""
    head, claims, signature = tokens().issue("user_1", "session_1", 3).split(".")
    parts = [head, claims, signature]
    which = data.draw(st.integers(0, 2))
    raw = bytearray(base64.urlsafe_b64decode(parts[which] + "=" * (-len(parts[which]) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    parts[which] = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
    with pytest.raises(TokenRefused):
        tokens().read(".".join(parts))


@given(st.text(max_size=200))
def test_no_nonsense_is_taken(text: str) -> None:
    """COM-26, CMB-12: whatever is sent as a token."""
    with pytest.raises(TokenRefused):
        tokens().read(text)


def test_random_tokens_are_told_apart_and_only_their_digest_is_kept() -> None:
    """COM-26."""
    made = {random_token("refresh") for _ in range(100)}
    assert len(made) == 100
    assert all(token.startswith("refresh_") and len(token) > 40 for token in made)
    assert len({fingerprint(token) for token in made}) == 100
