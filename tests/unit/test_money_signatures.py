"""Whose webhook it is: signatures over the raw bytes, and only fresh ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from transports.http import signatures
from transports.http.signatures import Forged

NOW = 1_800_000_000.0
SECRET = "whsec_test"
BODY = b'{"id": "evt_1"}'


def stripes(body: bytes, secret: str = SECRET, at: float = NOW) -> dict[str, str]:
    signed = hmac.new(secret.encode(), f"{at:.0f}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at:.0f},v1={signed}"}


def standards(body: bytes, key: bytes, at: float = NOW, name: str = "msg_1") -> dict[str, str]:
    signed = base64.b64encode(hmac.new(key, f"{name}.{at:.0f}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": name, "webhook-timestamp": f"{at:.0f}", "webhook-signature": f"v1,{signed}"}


def test_a_webhook_of_stripe_s_is_known_by_its_signature() -> None:
    """CMB-59, COM-46."""
    signatures.stripe(BODY, stripes(BODY), SECRET, NOW)
    rolling = {"Stripe-Signature": stripes(BODY)["Stripe-Signature"] + ",v1=" + "0" * 64 + ",v0=abc"}
    signatures.stripe(BODY, rolling, SECRET, NOW)


def test_the_package_of_stripe_s_signs_as_we_read() -> None:
    """CMB-59: what its own checker takes, ours takes, at the same moment."""
    at = time.time()
    headers = stripes(BODY, at=at)
    assert stripe.WebhookSignature.verify_header(BODY, headers["Stripe-Signature"], SECRET, 300)
    signatures.stripe(BODY, headers, SECRET, at)


@given(st.binary(max_size=64), st.integers(0, 63), st.integers(1, 255))
def test_one_changed_byte_is_enough_to_refuse(body: bytes, place: int, change: int) -> None:
    """COM-46: over the raw bytes."""
    headers = stripes(body)
    other = bytearray(body or b"x")
    other[place % len(other)] ^= change
    with pytest.raises(Forged):
        signatures.stripe(bytes(other), headers, SECRET, NOW)


@pytest.mark.parametrize("age", [301, -301, 10**6])
def test_what_was_signed_long_ago_is_refused(age: int) -> None:
    """CMB-59: stale is more than 300 s."""
    with pytest.raises(Forged, match="sent"):
        signatures.stripe(BODY, stripes(BODY, at=NOW - age), SECRET, NOW)
    with pytest.raises(Forged, match="sent"):
        signatures.standard(BODY, standards(BODY, b"key", at=NOW - age), "key", NOW)
    signatures.stripe(BODY, stripes(BODY, at=NOW - 300), SECRET, NOW)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1800000000",
        "v1=abc",
        "t=,v1=abc",
        "t=1e9,v1=abc",
        "t=1800000000,t=1800000000,v1=abc",
        "t=1800000000,v1=",
        "t=١٨٠٠,v1=abc",
        "t=1800000000,v1=é",
        ",,,=,",
    ],
)
def test_a_malformed_signature_is_refused_and_breaks_nothing(header: str) -> None:
    """COM-46: bad and unsigned events get 4xx."""
    with pytest.raises(Forged):
        signatures.stripe(BODY, {"Stripe-Signature": header}, SECRET, NOW)


def test_standard_webhooks_are_read_with_both_kinds_of_secret() -> None:
    """COM-46: Polar's secret is used as it is, one with whsec_ is base64."""
    signatures.standard(BODY, standards(BODY, b"polar_secret"), "polar_secret", NOW)
    key = b"\x00\x01 any bytes"
    signatures.standard(BODY, standards(BODY, key), "whsec_" + base64.b64encode(key).decode(), NOW)
    two = standards(BODY, b"polar_secret")
    two["webhook-signature"] = "v1,AAAA v1a,whatever " + two["webhook-signature"]
    signatures.standard(BODY, two, "polar_secret", NOW)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_standard_webhook_lacks_nothing(missing: str) -> None:
    """COM-46."""
    headers = standards(BODY, b"key")
    del headers[missing]
    with pytest.raises(Forged):
        signatures.standard(BODY, headers, "key", NOW)
    with pytest.raises(Forged):
        signatures.standard(BODY, {**standards(BODY, b"key"), "webhook-id": "msg_2"}, "key", NOW)
    with pytest.raises(Forged, match="base64"):
        signatures.standard(BODY, standards(BODY, b"key"), "whsec_!", NOW)


def test_revenuecat_is_known_by_its_authorization_and_signature() -> None:
    """COM-46: the header that was agreed on, and the newer signature where a secret is set."""
    agreed = {"Authorization": "Bearer agreed"}
    signatures.revenuecat(BODY, agreed, "Bearer agreed", "", NOW)
    bare = {**agreed, "X-RevenueCat-Signature": hmac.new(b"rc", BODY, hashlib.sha256).hexdigest()}
    signatures.revenuecat(BODY, bare, "Bearer agreed", "rc", NOW)
    timed = {**agreed, "X-RevenueCat-Signature": stripes(BODY, "rc")["Stripe-Signature"]}
    signatures.revenuecat(BODY, timed, "Bearer agreed", "rc", NOW)
    for headers, secret in ((agreed, "rc"), ({**bare, "Authorization": "Bearer other"}, "rc"), ({}, "")):
        with pytest.raises(Forged):
            signatures.revenuecat(BODY, headers, "Bearer agreed", secret, NOW)
    with pytest.raises(Forged):
        signatures.revenuecat(BODY, {"Authorization": ""}, "", "", NOW)
