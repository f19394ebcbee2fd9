"""One of everything that somebody can own, put straight into the tables, and what a stranger must never see of it."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from infra.ids import new_id
from infra.vault import Vault

WIDTH = 512
CALL = """
insert into calls (id, direction, state, ended_reason, ended_at, answered_at, persona, from_number, to_number, owner,
    persona_id, number_id, max_minutes, transcript_consent, recording_consent)
values ($1, 'outbound', $2, $3, $4, now() - interval '10 minutes', 'mia', '+15550100000', $5, $6, $7, $8, 15, true,
    true)
"""
STATEMENTS = {
    "identities": "insert into identities (id, owner, provider, issuer, subject) values ($1, $2, 'g', 'https://g', $1)",
    "sessions": """
        insert into sessions (id, owner, method, idle_until, expires_at)
        values ($1, $2, 'password', now() + interval '1 day', now() + interval '1 day')""",
    "devices": """
        insert into devices (id, owner, public_key, attached_at)
        values ($1, $2, sha256(convert_to($1, 'UTF8')), now())""",
    "payment_methods": """
        insert into payment_methods (
            id, owner, provider_ref, brand, last4, expires_month, expires_year, is_default)
        values ($1, $2, 'pm_' || $1, 'visa', '4242', 12, 2040, true)""",
    "scheduled_calls": """
        insert into scheduled_calls (id, owner, state, persona_id, number_id, max_minutes, zone, anchor, local_time,
            due_at, dial_at, try_at, series)
        values ($1, $2, 'pending', $3, $4, 15, 'UTC', '2040-01-01', '2040-01-01', '2040-01-01Z', '2040-01-01Z',
            '2040-01-01Z', $1)""",
}


@dataclass
class Belongings:
    """What somebody owns: their ids by the variable of a path that names such a thing, and words that are theirs."""

    owner: str
    marker: str
    ids: dict[str, list[str]] = field(default_factory=dict)

    @property
    def secrets(self) -> set[str]:
        """Whatever of it would give it away in an answer."""
        return {self.owner, self.marker, *(one for found in self.ids.values() for one in found)}


async def belongings(connections: asyncpg.Pool, vault: Vault, owner: str) -> Belongings:
    """Give a user, who has a data key, one of everything."""
    marker = f"marker{secrets.token_hex(8)}"
    await connections.execute("update users set name = $2, adult_at = now(), zone = 'UTC' where id = $1", owner, marker)
    made = {
        kind: new_id(kind)
        for kind in ("number", "persona", "call", "live", "session", "device", "method", "scheduled", "identity")
    }
    made["live"] = new_id("call")
    number = f"+1555{secrets.randbelow(10**7):07}"
    await connections.execute(
        "insert into numbers (id, owner, sealed, digest, country, masked, verified_at)"
        " values ($1, $2, $3, $4, 'US', $5, now())",
        made["number"],
        owner,
        await vault.seal(owner, number, "numbers.sealed"),
        vault.digest("number", number),
        f"+1…{number[-2:]}",
    )
    await connections.execute(
        "insert into personas (id, owner, name, description, voice, prompt_sealed) values ($1, $2, $3, $3, '', $4)",
        made["persona"],
        owner,
        marker,
        await vault.seal(owner, f"You are {marker}.", "personas.prompt"),
    )
    await connections.execute(
        "insert into contacts (owner, persona_id, position) values ($1, $2, 1)", owner, made["persona"]
    )
    for consent in ("service", "calls", "transcripts"):
        await connections.execute(
            "insert into consents (id, owner, purpose, granted, text_version, channel)"
            " values ($1, $2, $3, true, '1', 'api')",
            new_id("consent"),
            owner,
            consent,
        )
    await _calls(connections, vault, owner, marker, made, number)
    for table, key in (("identities", "identity"), ("sessions", "session"), ("devices", "device")):
        await connections.execute(STATEMENTS[table], made[key], owner)
    await connections.execute(STATEMENTS["payment_methods"], made["method"], owner)
    values = (made["scheduled"], owner, made["persona"], made["number"])
    await connections.execute(STATEMENTS["scheduled_calls"], *values)
    ids = {name: [made[name]] for name in ("number", "persona", "session", "device", "method", "scheduled", "identity")}
    return Belongings(owner, marker, ids | {"call": [made["call"], made["live"]]})


async def _calls(
    connections: asyncpg.Pool, vault: Vault, owner: str, marker: str, made: dict[str, str], number: str
) -> None:
    """A call that is over, with what was said, and one that is going on."""
    now = dt.datetime.now(dt.UTC)
    ends: tuple[tuple[str, str, str | None, dt.datetime | None], ...] = (
        ("call", "completed", "caller_hung_up", now),
        ("live", "in_progress", None, None),
    )
    for key, state, reason, ended in ends:
        sealed = await vault.seal(owner, number, "calls.to_number")
        values = (made[key], state, reason, ended, sealed, owner, made["persona"], made["number"])
        await connections.execute(CALL, *values)
        await connections.execute(
            "insert into call_events (call_id, seq, epoch, kind, data) values ($1, 1, 0, 'state', '{}')", made[key]
        )
    said = await vault.seal(owner, marker, "call_turns.text"), await vault.seal(owner, marker, "call_turns.spoken")
    await connections.execute(
        "insert into call_turns (call_id, number, epoch, who, text, spoken, done)"
        " values ($1, 1, 1, 'bot', $2, $3, true)",
        made["call"],
        *said,
    )
    await connections.execute(
        "insert into passages (call_id, number, owner, who, at, text_sealed, model, embedding, words)"
        " values ($1, 1, $2, 'bot', now(), $3, 'hash', $4::text::halfvec, to_tsvector('simple', $5))",
        made["call"],
        owner,
        await vault.seal(owner, marker, "passages.text"),
        "[" + ",".join(["0.1"] * WIDTH) + "]",
        marker,
    )


async def all_of(connections: asyncpg.Pool, owner: str) -> dict[str, list[Any]]:
    """Every row of somebody's, by table: what must be the same after a stranger has tried everything."""
    tables = await connections.fetch(
        "select relation from owned_tables union select relation from owned_parts order by relation"
    )
    found: dict[str, list[Any]] = {}
    for row in tables:
        rows = await connections.fetch("select owned_rows($1, $2) as told", row["relation"], owner)
        found[row["relation"]] = sorted((told["told"] for told in rows), key=repr)
    return found
