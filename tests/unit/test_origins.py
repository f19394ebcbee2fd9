"""Which pages may ask: our own and those that are listed; on a developer's machine, pages of that machine."""

from __future__ import annotations

import pytest

from infra.settings import load
from transports.http.origins import Origins

LISTED = " https://app.example.com, https://example.com/ "


@pytest.mark.parametrize(
    ("origin", "development", "production"),
    [
        ("https://phone.example.com", True, True),
        ("https://app.example.com", True, True),
        ("https://example.com", True, True),
        ("http://localhost:8080", True, False),
        ("http://127.0.0.1:5173", True, False),
        ("http://[::1]:8080", True, False),
        ("http://phone.example.com", False, False),
        ("https://phone.example.com.evil.net", False, False),
        ("https://evil.net", False, False),
        ("https://app.example.com:444", False, False),
        ("http://localhost.evil.net", False, False),
        ("http://127.0.0.1.evil.net", False, False),
        ("null", False, False),
        ("", False, False),
    ],
)
def test_only_our_own_pages_and_those_listed_may_ask(origin: str, development: bool, production: bool) -> None:
    """COM-34: an allow-list, compared whole."""
    for environment, expected in (("development", development), ("production", production)):
        told = load(
            environ={},
            environment=environment,
            node_public_url="https://phone.example.com",
            node_allowed_origins=LISTED,
        )
        assert Origins(told).allowed(origin) is expected


def test_with_nothing_listed_nobody_else_may_ask() -> None:
    """COM-34: an empty list allows nobody, not everybody."""
    told = load(environ={}, environment="production", node_public_url="https://phone.example.com")
    assert not Origins(told).allowed("")
    assert not Origins(told).allowed("https://example.com")
