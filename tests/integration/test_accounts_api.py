"""Accounts over HTTP: from opening one to leaving, for programs and for the page, and what each refusal is called."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.database.devices import proof_text
from infra.identity.codes import STEP_SECONDS, code_at
from infra.money.errors import PaymentsDown
from tests.doubles.front import Front, front, problem
from tests.doubles.household import PASSWORD
from tests.doubles.oidc import Issuer, asked_of, serving, write_providers
from transports.simulator.faults import Fault, Reach
from transports.simulator.network import Config, Network
from transports.simulator.network import serving as phone_network

ADA = {"email": "ada@example.com", "password": PASSWORD, "adult": True, "consents": {"service": True}}
NUMBER = "+15550177001"


@pytest_asyncio.fixture
async def network() -> AsyncIterator[Network]:
    async with phone_network(Config()) as opened:
        yield opened


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with serving(Issuer()) as opened:
        yield opened


@pytest_asyncio.fixture
async def gateway(database_url: str, network: Network, issuer: Issuer, tmp_path: Path) -> AsyncIterator[Front]:
    providers = str(write_providers(tmp_path, issuer=issuer))
    told: dict[str, Any] = {"twilio_api_url": network.url, "accounts_oidc_file": providers}
    async with front(database_url, **told) as opened, opened.services.identity.running():
        yield opened


class Client:
    """A program with an account."""

    def __init__(self, gateway: Front) -> None:
        self.gateway, self.headers, self.refresh_token, self.id = gateway, {}, "", ""  # type: ignore[var-annotated]

    def took(self, session: dict[str, Any]) -> Client:
        self.headers = {"Authorization": f"Bearer {session['access_token']}"}
        self.refresh_token, self.id = session["refresh_token"], session["user"]["id"]
        return self

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> ClientResponse:
        headers = self.headers | more.pop("headers", {})
        answer = await self.gateway.client.request(method, path, json=body, headers=headers, **more)
        await answer.read()
        return answer

    async def told(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.ask(method, path, body)
        assert answer.status == status, await answer.text()
        return await answer.json() if answer.content_type == "application/json" else None

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        return await problem(await self.ask(method, path, body, **more))


async def arrive(gateway: Front, **told: Any) -> Client:
    client = Client(gateway)
    return client.took(await client.told("POST", "/v1/accounts", ADA | told, 201))


async def letter(gateway: Front, user: str, kind: str, pattern: str) -> str:
    """What stands in the newest letter of a kind."""
    await gateway.services.identity.accounts.settled()
    letters = await gateway.services.identity.mail.letters(user)
    found = re.search(pattern, next(one.text for name, one in letters if name == kind))
    assert found is not None
    return found[1]


async def sent_code(network: Network) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{network.url}/simulator/messages") as answer:
        return str((await answer.json())["messages"][-1]["code"])


async def test_from_opening_an_account_to_leaving(gateway: Front) -> None:
    """CMB-10, CMB-11, COM-24: the whole way, as a program goes it."""
    ada = await arrive(gateway, name="Ada", zone="Europe/Berlin", language="tr")
    me = await ada.told("GET", "/v1/me")
    assert (me["email"], me["email_verified"], me["name"], me["adult"]) == ("ada@example.com", False, "Ada", True)
    assert me["consents"]["service"] is True
    assert me["consents"]["recording"] is False
    await ada.told("POST", "/v1/email-codes", status=202)
    code = await letter(gateway, ada.id, "email-code", r"\b(\d{6})\b")
    assert (await ada.told("POST", "/v1/email-codes/verify", {"code": code}))["email_verified"] is True
    assert await ada.refused("POST", "/v1/email-codes") == (409, "email-proven")
    changed = await ada.told("PATCH", "/v1/me", {"name": "", "transcript_days": 7, "language": "ko"})
    assert (changed["name"], changed["transcript_days"], changed["language"]) == ("", 7, "ko")
    there = Client(gateway).took(await Client(gateway).told("POST", "/v1/sessions", sign_in(), 201))
    sessions = (await ada.told("GET", "/v1/sessions"))["items"]
    assert [one["current"] for one in sessions] == [False, True]
    first = await ada.told("GET", "/v1/sessions?limit=1")
    second = await ada.told("GET", f"/v1/sessions?limit=1&after={first['next']}")
    assert [one["id"] for one in first["items"] + second["items"]] == [one["id"] for one in sessions]
    assert second["next"] is None
    await ada.told("DELETE", f"/v1/sessions/{sessions[0]['id']}", status=204)
    assert await there.refused("GET", "/v1/me") == (401, "not-authorised")
    receipt = await ada.told("DELETE", "/v1/me", {"password": PASSWORD}, 202)
    assert await ada.refused("GET", "/v1/me") == (401, "not-authorised")
    public = await Client(gateway).told("GET", f"/v1/erasures/{receipt['id']}")
    assert public == receipt
    assert public["requested_at"] <= public["destroyed_at"]
    assert await Client(gateway).refused("POST", "/v1/sessions", sign_in()) == (401, "sign-in-refused")


def sign_in(**told: Any) -> dict[str, Any]:
    return {"email": "ada@example.com", "password": PASSWORD} | told


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"email": "ada"}, (422, "invalid-field")),
        ({"email": "a b@example.com"}, (422, "invalid-field")),
        ({"email": "ada@example.com\r\nBcc: all@example.com"}, (422, "invalid-field")),
        ({"email": "a@" + "x" * 260}, (422, "invalid-field")),
        ({"password": "short"}, (422, "invalid-field")),
        ({"password": "password1234"}, (422, "weak-password")),
        ({"password": "ada@example.com"}, (422, "weak-password")),
        ({"zone": "Europe/Atlantis"}, (422, "unknown-zone")),
        ({"zone": "../etc/passwd"}, (422, "unknown-zone")),
        ({"language": "xx"}, (422, "invalid-field")),
        ({"name": "x" * 61}, (422, "invalid-field")),
        ({"adult": "yes"}, (422, "invalid-field")),
        ({"role": "operator"}, (422, "invalid-field")),
        ({"consents": {"service": False}}, (422, "service-consent-needed")),
        ({"consents": {}}, (422, "invalid-field")),
    ],
)
async def test_an_account_that_cannot_be_opened_is_told_why(
    gateway: Front, change: dict[str, Any], answer: tuple[int, str]
) -> None:
    """CMB-12, COM-31: field and rule, and no account."""
    assert await Client(gateway).refused("POST", "/v1/accounts", ADA | change) == answer
    assert await gateway.connections.fetchval("select count(*) from users") == 0


async def test_nobody_learns_who_has_an_account(gateway: Front) -> None:
    """COM-24: opening, signing in and forgetting answer alike for an address that is known and one that is not."""
    ada = await arrive(gateway)
    code = await letter(gateway, ada.id, "email-code", r"\b(\d{6})\b")
    await ada.told("POST", "/v1/email-codes/verify", {"code": code})
    answers: dict[str, list[Any]] = {}
    for email in ("ada@example.com", "nobody@example.com"):
        opened = await Client(gateway).ask("POST", "/v1/accounts", ADA | {"email": email})
        wrong = await Client(gateway).ask("POST", "/v1/sessions", sign_in(email=email, password="wrong horse battery"))
        forgot = await Client(gateway).ask("POST", "/v1/password-resets", {"email": email})
        answers[email] = [
            (opened.status, sorted(await opened.json())),
            (wrong.status, await wrong.json()),
            (forgot.status, await forgot.text()),
        ]
    known, unknown = answers.values()
    assert known == unknown
    assert [answer[0] for answer in known] == [201, 401, 202]


async def test_a_forgotten_password_is_set_by_the_link_in_the_letter(gateway: Front) -> None:
    """COM-24: once; the sessions before it are over."""
    ada = await arrive(gateway)
    await Client(gateway).told("POST", "/v1/password-resets", {"email": "ada@example.com"}, 202)
    token = await letter(gateway, ada.id, "reset", r"/#/reset\?token=(\S+)")
    new = {"token": token, "password": "another horse entirely"}
    await Client(gateway).told("POST", "/v1/password-resets/complete", new, 204)
    assert await Client(gateway).refused("POST", "/v1/password-resets/complete", new) == (422, "code-wrong")
    assert await ada.refused("GET", "/v1/me") == (401, "not-authorised")
    await Client(gateway).told("POST", "/v1/sessions", sign_in(password="another horse entirely"), 201)


async def test_a_changed_password_needs_the_one_before(gateway: Front) -> None:
    """COM-24: 403, not 401: the session is good, the password is not."""
    ada = await arrive(gateway)
    change = {"current": "wrong", "new": "another horse entirely"}
    assert await ada.refused("PUT", "/v1/me/password", change) == (403, "password-wrong")
    await ada.told("PUT", "/v1/me/password", change | {"current": PASSWORD}, 204)
    await ada.told("GET", "/v1/me")
    await ada.told("DELETE", "/v1/sessions", status=204)
    assert await ada.refused("GET", "/v1/me") == (401, "not-authorised")


async def test_tokens_are_renewed_once(gateway: Front) -> None:
    """COM-26: and a token that comes back ends the session."""
    ada = await arrive(gateway)
    old = ada.refresh_token
    ada.took(await ada.told("POST", "/v1/sessions/refresh", {"refresh_token": old}))
    await ada.told("GET", "/v1/me")
    assert await ada.refused("POST", "/v1/sessions/refresh", {"refresh_token": old}) == (401, "refresh-refused")
    assert await ada.refused("GET", "/v1/me") == (401, "not-authorised")
    again = await ada.refused("POST", "/v1/sessions/refresh", {"refresh_token": ada.refresh_token})
    assert again == (401, "refresh-refused")


def baked(answer: ClientResponse) -> dict[str, Any]:
    """The cookies of an answer, by name."""
    jar: SimpleCookie = SimpleCookie()
    for line in answer.headers.getall("Set-Cookie", []):
        jar.load(line)
    return dict(jar)


async def test_the_page_lives_on_cookies_that_no_other_site_can_use(gateway: Front) -> None:
    """COM-34, COM-26: HttpOnly, Strict, Secure behind https; changes need the CSRF token."""
    opened = await Client(gateway).ask("POST", "/v1/accounts", ADA)
    jar = baked(opened)
    assert set(jar) == {"ringdown_access", "ringdown_refresh", "ringdown_csrf"}
    assert all(cookie["samesite"] == "Strict" and cookie["secure"] for cookie in jar.values())
    assert [name for name, cookie in jar.items() if not cookie["httponly"]] == ["ringdown_csrf"]
    assert jar["ringdown_refresh"]["path"] == "/v1/sessions"
    page = Client(gateway)
    csrf = {"X-CSRF": jar["ringdown_csrf"].value}
    page.headers = {"Cookie": "; ".join(f"{name}={cookie.value}" for name, cookie in jar.items())}
    await page.told("GET", "/v1/me")
    assert await page.refused("PATCH", "/v1/me", {"name": "x"}) == (403, "csrf-missing")
    assert await page.refused("POST", "/v1/sessions/refresh", {}) == (403, "csrf-missing")
    wrong = {"X-CSRF": "guessed"}
    assert await page.refused("PATCH", "/v1/me", {"name": "x"}, headers=wrong) == (403, "csrf-missing")
    renewed = await page.ask("POST", "/v1/sessions/refresh", {}, headers=csrf)
    assert renewed.status == 200
    assert baked(renewed)["ringdown_refresh"].value != jar["ringdown_refresh"].value
    out = await page.ask("DELETE", "/v1/sessions/current", headers=csrf)
    assert out.status == 204
    assert {cookie["max-age"] for cookie in baked(out).values()} == {"0"}
    assert await page.refused("GET", "/v1/me") == (401, "not-authorised")


async def test_guesses_at_one_account_are_held_up_wherever_they_come_from(gateway: Front) -> None:
    """COM-33, COM-24: the limit of the account, beside that of the address."""
    limits = gateway.services.limiter
    asked: list[tuple[str, str, str | None]] = []
    real = limits.take

    async def noting(kind: str, route: str, user: str | None, ip: str) -> Any:
        asked.append((kind, route, user))
        return await real(kind, route, user, ip)

    limits.take = noting  # type: ignore[method-assign]
    for email in ("ada@example.com", " ADA@example.com"[1:], "eve@example.com"):
        await Client(gateway).ask("POST", "/v1/sessions", sign_in(email=email))
    accounts = [user for kind, route, user in asked if route == "sign-in"]
    assert len(accounts) == 3
    assert accounts[0] == accounts[1] != accounts[2]
    assert "ada" not in str(asked)


async def test_a_second_factor_over_http(gateway: Front) -> None:
    """COM-24: offered, confirmed, asked for, removed."""
    ada = await arrive(gateway)
    offered = await ada.told("POST", "/v1/me/second-factor", status=201)
    now = int(time.time() // STEP_SECONDS)
    early, present, later = (code_at(offered["secret"], now + step) for step in (-1, 0, 1))
    confirm = "/v1/me/second-factor/confirm"
    wrong = f"{(int(early) + 1) % 1_000_000:06}"
    if wrong not in (present, later):
        assert await ada.refused("POST", confirm, {"code": wrong}) == (401, "second-factor-wrong")
    await ada.told("POST", confirm, {"code": early}, 204)
    assert await ada.refused("POST", confirm, {"code": present}) == (409, "factor-state")
    assert await ada.refused("POST", "/v1/sessions", sign_in()) == (401, "second-factor-needed")
    assert await ada.refused("POST", "/v1/sessions", sign_in(code=early)) == (401, "second-factor-wrong")
    await ada.told("POST", "/v1/sessions", sign_in(code=present), 201)
    drop = {"password": "wrong", "code": later}
    assert await ada.refused("DELETE", "/v1/me/second-factor", drop) == (403, "password-wrong")
    await ada.told("DELETE", "/v1/me/second-factor", drop | {"password": PASSWORD}, 204)
    await ada.told("POST", "/v1/sessions", sign_in(), 201)


async def test_a_number_is_proven_over_http(gateway: Front, network: Network) -> None:
    """CMB-01, CMB-11: by the code that the phone shows; its owner alone reads it."""
    ada = await arrive(gateway)
    made = await ada.told("POST", "/v1/numbers", {"number": "+1 (555) 017-7001"}, 201)
    assert (made["number"], made["verified_at"], made["primary"]) == (NUMBER, None, False)
    path = f"/v1/numbers/{made['id']}"
    code = await sent_code(network)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    assert await ada.refused("POST", f"{path}/verify", {"code": wrong}) == (422, "code-wrong")
    eve = await arrive(gateway, email="eve@example.com")
    for method, address, body in (
        ("GET", path, None),
        ("POST", f"{path}/verify", {"code": code}),
        ("DELETE", path, None),
        ("POST", f"{path}/opt-in", None),
    ):
        assert await eve.refused(method, address, body) == (404, "number-not-found")
        missing = address.replace(made["id"], "number_" + "0" * 32)
        assert await eve.refused(method, missing, body) == (404, "number-not-found")
    proven = await ada.told("POST", f"{path}/verify", {"code": code})
    assert proven["verified_at"]
    assert proven["primary"] is True
    assert await ada.told("GET", path) == proven
    assert (await ada.told("GET", "/v1/numbers"))["items"] == [proven]
    assert (await eve.told("GET", "/v1/numbers"))["items"] == []
    theirs = await eve.told("POST", "/v1/numbers", {"number": NUMBER}, 201)
    taken = {"code": await sent_code(network)}
    assert await eve.refused("POST", f"/v1/numbers/{theirs['id']}/verify", taken) == (409, "number-taken")
    assert (await ada.told("POST", f"{path}/opt-in"))["opted_out"] is False
    await ada.told("DELETE", path, status=204)
    assert (await ada.told("GET", "/v1/numbers"))["items"] == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"number": "12"}, (422, "invalid-field")),
        ({"number": "0151 2345678"}, (422, "invalid-field")),
        ({"number": "+15550177001; drop table"}, (422, "invalid-field")),
        ({"number": "+999 123456789"}, (422, "number-refused")),
        ({"number": "+7 912 345 67 89"}, (422, "number-refused")),
        ({}, (422, "invalid-field")),
    ],
)
async def test_a_number_that_is_none_is_refused(gateway: Front, body: dict[str, Any], answer: tuple[int, str]) -> None:
    """CMB-12, CMB-09."""
    assert await (await arrive(gateway)).refused("POST", "/v1/numbers", body) == answer


async def test_a_carrier_that_is_away_is_not_the_users_fault(gateway: Front, network: Network) -> None:
    """CMB-15, CMB-66: 502, and signing in goes on."""
    ada = await arrive(gateway)
    network.inflict(Fault("rest_error", Reach(times=1)))
    assert await ada.refused("POST", "/v1/numbers", {"number": NUMBER}) == (502, "carrier-down")
    await ada.told("POST", "/v1/numbers", {"number": NUMBER}, 201)


async def test_consents_are_given_taken_back_and_listed(gateway: Front) -> None:
    """COM-49, CMB-08: one request withdraws; the record shows both, with the channel they came by."""
    ada = await arrive(gateway)
    browser = {"Sec-Fetch-Site": "same-origin"}
    given = await ada.ask("POST", "/v1/me/consents", {"purpose": "recording", "granted": True}, headers=browser)
    assert (given.status, (await given.json())["channel"]) == (201, "web")
    assert (await ada.told("GET", "/v1/me"))["consents"]["recording"] is True
    await ada.told("POST", "/v1/me/consents", {"purpose": "recording", "granted": False}, 201)
    assert (await ada.told("GET", "/v1/me"))["consents"]["recording"] is False
    first = await ada.told("GET", "/v1/me/consents?limit=2")
    rest = await ada.told("GET", f"/v1/me/consents?limit=2&after={first['next']}")
    found = [(one["purpose"], one["granted"], one["channel"]) for one in first["items"] + rest["items"]]
    assert found == [("recording", False, "api"), ("recording", True, "web"), ("service", True, "api")]
    assert all(one["ip"] == "127.0.0.1" and one["text_version"] for one in first["items"])
    assert await ada.refused("POST", "/v1/me/consents", {"purpose": "everything", "granted": True}) == (
        422,
        "invalid-field",
    )
    texts = (await Client(gateway).told("GET", "/v1/consents"))["items"]
    assert {one["purpose"] for one in texts} >= {"service", "calls", "transcripts", "recording"}


async def test_age_is_attested_once_for_all(gateway: Front) -> None:
    """CMB-06: not at sign-up, then later."""
    ada = await arrive(gateway, adult=False)
    assert (await ada.told("GET", "/v1/me"))["adult"] is False
    assert (await ada.told("POST", "/v1/me/adult"))["adult"] is True
    assert (await ada.told("GET", "/v1/me"))["adult"] is True


async def test_a_copy_of_everything_is_handed_out(gateway: Front) -> None:
    """COM-52: as a file, and the audit knows of it."""
    ada = await arrive(gateway)
    answer = await ada.ask("POST", "/v1/me/export")
    assert answer.status == 200
    assert "attachment" in answer.headers["Content-Disposition"]
    copy = await answer.json()
    assert copy["user"] == ada.id
    assert copy["tables"]["users"][0]["email"] == "ada@example.com"
    assert "account.exported" in [one["action"] for one in (await ada.told("POST", "/v1/me/export"))["tables"]["audit"]]


async def test_leaving_needs_the_password_and_the_end_of_calls(gateway: Front) -> None:
    """COM-51: 403 and 409, and nothing has happened."""
    ada = await arrive(gateway)
    assert await ada.refused("DELETE", "/v1/me", {"password": "wrong"}) == (403, "password-wrong")
    assert await ada.refused("DELETE", "/v1/me", {}) == (403, "password-wrong")
    await gateway.connections.execute(
        "insert into calls (id, direction, state, persona, from_number, to_number, owner, persona_id, max_minutes)"
        " values ($1, 'outbound', 'ringing', 'mia', '+15550100000', 'v1.x', $2, 'persona_1', 15)",
        "call_" + "1" * 32,
        ada.id,
    )
    assert await ada.refused("DELETE", "/v1/me", {"password": PASSWORD}) == (409, "erasure-unfinished")
    assert (await ada.told("GET", "/v1/me"))["email"] == "ada@example.com"
    assert await Client(gateway).refused("GET", "/v1/erasures/erasure_" + "0" * 32) == (404, "erasure-not-found")


async def test_staff_who_look_at_a_users_call_leave_a_row(gateway: Front) -> None:
    """COM-54: who, whose, which call; also when there was nothing to hear."""
    ada = await arrive(gateway)
    call = "call_" + "2" * 32
    await gateway.connections.execute(
        "insert into calls (id, direction, state, ended_reason, ended_at, persona, from_number, to_number, owner,"
        " persona_id, max_minutes) values ($1, 'outbound', 'canceled', 'api', now(), 'mia', '+15550100000', 'v1.x', $2,"
        " 'persona_1', 15)",
        call,
        ada.id,
    )
    await Client(gateway).told("GET", f"/v1/operator/calls/{call}")
    assert (await Client(gateway).refused("GET", f"/v1/operator/calls/{call}/recording"))[0] == 404
    entries = await gateway.services.identity.audit.of(ada.id)
    assert [(one.actor, one.action, one.context) for one in entries[-2:]] == [
        ("operator", "call.read", {"call": call}),
        ("operator", "recording.read", {"call": call}),
    ]


async def test_leaving_takes_the_cards_from_the_processor(gateway: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-51, CMB-56: and a processor that is away keeps nobody."""
    ada, eve = await arrive(gateway), await arrive(gateway, email="eve@example.com")
    forgotten: list[tuple[str, str]] = []
    money = type(gateway.services.money)

    async def methods(_money: object, owner: str) -> list[Any]:
        return [SimpleNamespace(id="method_1"), SimpleNamespace(id="method_2")]

    async def remove(_money: object, owner: str, method: str) -> None:
        if owner == eve.id:
            raise PaymentsDown
        forgotten.append((owner, method))

    monkeypatch.setattr(money, "methods", methods)
    monkeypatch.setattr(money, "remove_method", remove)
    for client in (ada, eve):
        await client.told("DELETE", "/v1/me", {"password": PASSWORD}, 202)
    assert forgotten == [(ada.id, "method_1"), (ada.id, "method_2")]


async def test_signing_in_by_anothers_word_in_a_browser(gateway: Front) -> None:
    """COM-25: away, back, cookies set, on to the page; the flow's cookie is gone."""
    assert (await Client(gateway).told("GET", "/v1/oidc"))["items"] == [{"provider": "company", "title": "Company"}]
    start = await Client(gateway).ask("GET", "/v1/oidc/company/start", allow_redirects=False)
    assert start.status == 302
    flow = baked(start)["ringdown_oidc"]
    assert (flow["samesite"], flow["path"], bool(flow["httponly"])) == ("Lax", "/v1/oidc/company", True)
    address = start.headers["Location"]
    async with aiohttp.ClientSession() as browser, browser.get(address, allow_redirects=False) as there:
        back = asked_of(there.headers["Location"])
    cookie = {"Cookie": f"ringdown_oidc={flow.value}"}
    callback = "/v1/oidc/company/callback"
    more = {"session_state": "whatever the provider adds"}

    async def come(**told: Any) -> ClientResponse:
        told = {"params": back | more, "headers": cookie} | told
        return await Client(gateway).ask("GET", callback, allow_redirects=False, **told)

    forged = {"params": back | {"state": "forged"}, "headers": cookie}
    assert await problem(await come(**forged)) == (403, "oidc-refused")
    assert await problem(await come(headers={})) == (403, "oidc-refused")
    person = await come(**forged | {"headers": cookie | {"Accept": "text/html"}})
    assert (person.status, person.headers["Location"]) == (302, "/#/sign-in?problem=oidc-refused")
    done = await come()
    assert (done.status, done.headers["Location"]) == (302, "/")
    jar = baked(done)
    assert set(jar) == {"ringdown_access", "ringdown_refresh", "ringdown_csrf", "ringdown_oidc"}
    assert jar["ringdown_oidc"].value == ""
    page = Client(gateway)
    page.headers = {"Cookie": f"ringdown_access={jar['ringdown_access'].value}"}
    assert (await page.told("GET", "/v1/me"))["email"] == "ada@example.com"
    assert await Client(gateway).refused("GET", "/v1/oidc/nobody/start") == (404, "provider-not-found")


async def test_a_device_over_http(gateway: Front) -> None:
    """COM-27: registered, known, attached, listed, revoked."""
    key, now = Ed25519PrivateKey.generate(), [int(time.time() * 1000)]

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    def proof(method: str, path: str, device: str) -> str:
        now[0] += 1
        return f"{now[0]}.{text(key.sign(proof_text(method, path, device, now[0])))}"

    new = {"public_key": text(key.public_key().public_bytes_raw()), "name": "phone"}
    made = await Client(gateway).told("POST", "/v1/devices", new | {"proof": proof("POST", "/v1/devices", "new")}, 201)
    device, path = made["device"]["id"], "/v1/devices/current"
    known = Client(gateway)
    known.headers = {"Authorization": f"Device {made['token']}", "X-Device-Proof": proof("GET", path, device)}
    assert (await known.told("GET", path))["attached_at"] is None
    assert await known.refused("GET", path) == (401, "device-refused")  # the same proof again
    assert await Client(gateway).refused("GET", path) == (401, "device-refused")
    renewing = f"/v1/devices/{device}/token"
    token = (await Client(gateway).told("POST", renewing, {"proof": proof("POST", renewing, device)}))["token"]
    ada = await arrive(gateway)
    attach = "/v1/devices/attach"
    attached = await ada.told("POST", attach, {"token": token, "proof": proof("POST", attach, device)})
    assert (attached["id"], bool(attached["attached_at"])) == (device, True)
    again = {"token": token, "proof": proof("POST", attach, device)}
    assert await ada.refused("POST", attach, again) == (409, "device-known")
    assert [one["id"] for one in (await ada.told("GET", "/v1/devices"))["items"]] == [device]
    await ada.told("DELETE", f"/v1/devices/{device}", status=204)
    assert await ada.refused("DELETE", f"/v1/devices/{device}") == (404, "device-not-found")
