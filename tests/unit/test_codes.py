"""One-time codes: six digits by chance, and the authenticator app's as its standard has them."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.identity.codes import STEP_SECONDS, address, code_at, digits, new_secret, step_of

RFC = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("moment", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (2000000000, "279037"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_standard(moment: int, code: str) -> None:
    """COM-24: the table of RFC 6238, appendix B, in six digits."""
    assert code_at(RFC, moment // STEP_SECONDS) == code
    assert step_of(RFC, code, 0, moment) == moment // STEP_SECONDS


@given(st.integers(1, 10**9), st.integers(-3, 3))
def test_a_code_is_taken_near_its_time_and_once(step: int, off: int) -> None:
    """COM-24: a clock may be off by one step; a step that was taken is taken no more."""
    now = float((step + 10) * STEP_SECONDS)
    code = code_at(RFC, step + 10 + off)
    found = step_of(RFC, code, 0, now)
    if abs(off) <= 1:
        assert found is not None
        assert step_of(RFC, code, step + 11, now) is None
    else:
        assert found is None or code in {code_at(RFC, step + 10 + near) for near in (-1, 0, 1)}


def test_six_digits_are_six_digits() -> None:
    """CMB-01: leading zeros included."""
    made = [digits() for _ in range(200)]
    assert all(len(code) == 6 and code.isdigit() for code in made)
    assert len(set(made)) > 150


def test_an_app_reads_the_secret_from_the_address() -> None:
    """COM-24."""
    secret = new_secret()
    there = urlsplit(address(secret, "ada@example.com"))
    assert (there.scheme, there.netloc, there.path) == ("otpauth", "totp", "/Ringdown%3Aada%40example.com")
    assert parse_qs(there.query) == {"secret": [secret], "issuer": ["Ringdown"]}
