"""The parts of a node: real or stand-in, told at start, refused in production."""

from __future__ import annotations

from typing import Any

import pytest

from infra.settings import Settings, SettingsError, load
from transports.parts import parts_of, refuse_stand_ins, table

REAL = {
    "deepgram_api_key": "k",
    "elevenlabs_api_key": "k",
    "cerebras_api_key": "k",
    "twilio_account_sid": "AC1",
    "twilio_auth_token": "t",
    "node_operator_token": "o",
    "vault_master_key": "a" * 43 + "=",
    "stripe_secret_key": "sk_live_1",
    "mail_smtp_url": "smtps://mail.example.com",
}


def settings(**overrides: Any) -> Settings:
    return load(environ={}, **overrides)


def stand_ins(told: Settings) -> set[str]:
    return {part.name for part in parts_of(told, "db", "cache") if part.stand_in}


def test_without_a_key_every_engine_stands_in_and_says_so() -> None:
    """Issue, COM-57: nobody takes the demo for the real thing."""
    engines = {"carrier", "listener", "voice", "brain"}
    assert stand_ins(settings(twilio_api_url="http://127.0.0.1:9000")) == engines | {"vault", "payments", "mail"}


def test_with_keys_every_part_is_real() -> None:
    """Issue: one setting replaces one stand-in."""
    assert stand_ins(settings(**REAL)) == set()


def test_production_refuses_stand_ins_and_names_each_with_its_remedy() -> None:
    """Issue: a sentence that says what to change."""
    told = settings(environment="production", twilio_api_url="http://127.0.0.1:9000")
    with pytest.raises(SettingsError) as refused:
        refuse_stand_ins(told, parts_of(told, "", ""))
    engines = ("TWILIO_API_URL", "DEEPGRAM_API_KEY", "ELEVENLABS_API_KEY", "CEREBRAS_API_KEY")
    for word in (*engines, "NODE_OPERATOR_TOKEN", "VAULT_MASTER_KEY", "STRIPE_SECRET_KEY", "MAIL_SMTP_URL"):
        assert word in str(refused.value)


def test_production_takes_real_parts_and_development_takes_any() -> None:
    """Issue: and nothing else stands in the way."""
    told = settings(environment="production", **REAL)
    refuse_stand_ins(told, parts_of(told, "", ""))
    refuse_stand_ins(settings(), parts_of(settings(), "", ""))


def test_the_table_has_one_line_for_each_part() -> None:
    """Issue: part, real or stand-in, engine, address."""
    parts = parts_of(settings(), "postgresql:///x", "unix:///y")
    lines = table(parts).splitlines()
    assert len(lines) == len(parts)
    assert lines[0].split()[:2] == ["database", "real"]
    assert lines[0].endswith("postgresql:///x")


def test_twilio_with_the_token_that_everybody_knows_is_no_carrier() -> None:
    """COM-57: production refuses it, or anybody could sign a webhook."""
    told = settings(environment="production", **{k: v for k, v in REAL.items() if k != "twilio_auth_token"})
    assert stand_ins(told) == {"carrier"}
    with pytest.raises(SettingsError, match="TWILIO_AUTH_TOKEN"):
        refuse_stand_ins(told, parts_of(told, "", ""))


def test_a_double_of_the_card_processor_is_named_as_one() -> None:
    """COM-40: money that moves at a double's address is no money."""
    told = settings(**REAL | {"stripe_api_url": "http://127.0.0.1:9001"})
    assert stand_ins(told) == {"payments"}
