"""Counting requests on one node alone: strict, sliding, and bounded."""

from __future__ import annotations

import pytest

from infra.limits import LOCAL_KEYS, LOCAL_SHARE, Limiter, Verdict, network
from infra.settings import Limits


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def alone(**limits: int) -> tuple[Limiter, Clock]:
    clock = Clock()
    return Limiter(Limits(**limits), clock=clock), clock


async def test_without_valkey_a_node_lets_a_share_pass_and_says_when_the_next_may() -> None:
    """COM-33: the local limit is stricter than the common one, since every node counts for itself."""
    limiter, clock = alone(read=8)
    for left in range(8 // LOCAL_SHARE - 1, -1, -1):
        verdict = await limiter.take("read", "GET /v1/x", "user_1", "192.0.2.1")
        assert (verdict.allowed, verdict.left, verdict.exact) == (True, left, False)
        clock.now += 1
    refused = await limiter.take("read", "GET /v1/x", "user_1", "192.0.2.1")
    assert (refused.allowed, refused.left, refused.reset_seconds) == (False, 0, 58)
    assert refused.headers()["Retry-After"] == "58"


async def test_the_window_slides() -> None:
    """COM-33: a place gets free 60 seconds after it was taken, not when a minute begins."""
    limiter, clock = alone(read=8)
    await limiter.take("read", "r", None, "192.0.2.1")
    clock.now += 30
    await limiter.take("read", "r", None, "192.0.2.1")
    clock.now += 29.9
    assert not (await limiter.take("read", "r", None, "192.0.2.1")).allowed
    clock.now += 0.2
    assert (await limiter.take("read", "r", None, "192.0.2.1")).allowed
    assert not (await limiter.take("read", "r", None, "192.0.2.1")).allowed


async def test_users_addresses_and_routes_are_counted_apart_and_each_alone_can_stop_a_request() -> None:
    """CMB-14: per user, per address, per route."""
    limiter, _ = alone(write=LOCAL_SHARE)
    assert (await limiter.take("write", "r", "ada", "192.0.2.1")).allowed
    assert not (await limiter.take("write", "r", "ada", "192.0.2.2")).allowed, "the same user from elsewhere"
    assert not (await limiter.take("write", "r", "bob", "192.0.2.1")).allowed, "the same address as another user"
    assert (await limiter.take("write", "r", "bob", "192.0.2.3")).allowed
    assert (await limiter.take("write", "s", "ada", "192.0.2.1")).allowed, "another route"


async def test_a_request_that_was_refused_is_not_counted() -> None:
    """COM-33: whoever waits as told gets in, however often they tried."""
    limiter, clock = alone(read=LOCAL_SHARE)
    await limiter.take("read", "r", None, "192.0.2.1")
    for _ in range(50):
        clock.now += 1
        assert not (await limiter.take("read", "r", None, "192.0.2.1")).allowed
    clock.now += 11
    assert (await limiter.take("read", "r", None, "192.0.2.1")).allowed


async def test_a_flood_of_addresses_does_not_fill_the_memory() -> None:
    """COM-33: the oldest windows go first."""
    limiter, _ = alone(read=LOCAL_SHARE)
    for number in range(LOCAL_KEYS + 100):
        await limiter.take("read", "r", None, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(limiter._windows) == LOCAL_KEYS


@pytest.mark.parametrize(
    ("ip", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("no address " * 20, ("no address " * 20)[:64]),
    ],
)
def test_an_address_of_version_six_is_counted_with_its_neighbours(ip: str, counted: str) -> None:
    """COM-33: one household has 2 to the 64 of them."""
    assert network(ip) == counted


def test_the_client_is_told_what_is_left() -> None:
    """COM-33: headers on every answer, Retry-After where it is too much."""
    told = Verdict(True, 10, 3, 20).headers()
    assert told == {"RateLimit-Limit": "10", "RateLimit-Remaining": "3", "RateLimit-Reset": "20"}
    assert Verdict(False, 10, 0, 20).headers() == told | {"RateLimit-Remaining": "0", "Retry-After": "20"}
