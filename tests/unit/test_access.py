"""Whose request it is: tokens, and addresses that only a trusted proxy may tell."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from infra.settings import load
from transports.http.access import address_of, bearer_of, is_operator, is_unlocked


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", ""), ("Bearer", ""), ("", "")],
)
def test_a_bearer_token_is_taken_from_its_header_alone(header: str, token: str) -> None:
    """COM-34: never from anywhere else."""
    asked = make_mocked_request("GET", "/v1/me?access_token=abc", headers={"Authorization": header} if header else {})
    assert bearer_of(asked) == token


def test_no_token_set_is_a_token_that_nobody_has() -> None:
    """COM-77: an empty setting is no password."""
    told = load(environ={})
    assert not is_operator("", told)
    assert is_unlocked(told)
    locked = load(environ={}, node_operator_token="s3cret")
    assert (is_operator("s3cret", locked), is_operator("s3cre", locked), is_operator("schlüssel", locked)) == (
        True,
        False,
        False,
    )
    assert not is_unlocked(locked)
    assert not is_unlocked(load(environ={}, environment="production"))


@pytest.mark.parametrize(
    ("forwarded", "trusted", "address"),
    [
        ("198.51.100.7", True, "198.51.100.7"),
        ("6.6.6.6, 198.51.100.7", True, "198.51.100.7"),
        ("6.6.6.6,198.51.100.7 ", True, "198.51.100.7"),
        ("198.51.100.7", False, ""),
        ("", True, ""),
    ],
)
def test_what_a_client_says_of_its_address_is_hearsay(forwarded: str, trusted: bool, address: str) -> None:
    """COM-33: nobody escapes a limit by inventing addresses; the proxy next to us adds the last one."""
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    asked = make_mocked_request("GET", "/", headers=headers)
    assert address_of(asked, trust_forwarded=trusted) == (address or asked.remote or "")
