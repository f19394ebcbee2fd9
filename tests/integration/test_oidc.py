"""Signing in by another's word: taken when every part of it is right, refused when one is not (COM-25)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra.identity.oidc import Oidc, Person, ProviderDown, ProviderRefused, UnknownProvider
from infra.identity.providers import Provider, Providers
from tests.doubles.household import HERE, Household, household
from tests.doubles.oidc import CLIENT, SECRET, Hub, Issuer, apple_key, asked_of, serving, write_providers


@pytest_asyncio.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with serving(Issuer()) as opened:
        yield opened


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[Issuer]:
    async with serving(Hub()) as opened:
        yield opened


@pytest_asyncio.fixture
async def home(database_url: str, issuer: Issuer, hub: Issuer, tmp_path: Path) -> AsyncIterator[Household]:
    providers = write_providers(tmp_path, issuer=issuer, hub=hub)
    async with household(database_url, accounts_oidc_file=str(providers)) as opened:
        yield opened


async def come_back(url: str) -> dict[str, str]:
    """What a browser that goes to the provider's address is sent back with."""
    async with aiohttp.ClientSession() as browser, browser.get(url, allow_redirects=False) as answer:
        assert answer.status == 302
        return asked_of(answer.headers["Location"])


async def signed(home: Household, name: str = "company") -> Person:
    """Away and back."""
    url, flow = await home.identity.oidc.start(name)
    return await home.identity.oidc.finish(name, flow, await come_back(url))


async def test_the_way_there_asks_for_as_little_as_it_must(home: Household, issuer: Issuer) -> None:
    """COM-25: code, PKCE, state and nonce, and nothing of them readable in the browser's cookie."""
    url, flow = await home.identity.oidc.start("company")
    asked = asked_of(url)
    assert url.startswith(f"{issuer.url}/authorize?")
    assert asked["redirect_uri"] == "https://phone.example.com/v1/oidc/company/callback"
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert not any(asked[name] in flow for name in ("state", "nonce", "code_challenge"))
    again, _ = await home.identity.oidc.start("company")
    assert not {asked["state"], asked["nonce"]} & set(asked_of(again).values())


async def test_a_person_comes_back_known(home: Household, issuer: Issuer) -> None:
    """COM-25: subject, verified address and name, from the signed ID token."""
    assert await signed(home) == Person("company", issuer.url, "p1", "ada@example.com", "Ada")


async def test_a_plain_oauth_server_is_asked_who_it_is(home: Household, hub: Issuer) -> None:
    """COM-25: GitHub's shape: the primary one of the verified addresses."""
    assert await signed(home, "hub") == Person("hub", hub.url, "4711", "ada@example.com", "Ada")
    assert isinstance(hub, Hub)
    hub.emails = [{"email": "ada@example.com", "verified": False, "primary": True}]
    assert (await signed(home, "hub")).email is None


@pytest.mark.parametrize(
    ("lies", "sentence"),
    [
        ({"nonce": "another"}, "another sign-in"),
        ({"nonce": None}, "another sign-in"),
        ({"aud": "somebody-else"}, "not good"),
        ({"aud": [CLIENT, "somebody-else"]}, "made for another"),
        ({"aud": [CLIENT, "somebody-else"], "azp": "somebody-else"}, "made for another"),
        ({"iss": "https://evil.example"}, "not good"),
        ({"exp": int(time.time()) - 120}, "not good"),
        ({"exp": None}, "not good"),
        ({"iat": int(time.time()) + 86_400}, "not good"),
        ({"sub": None}, "not good"),
    ],
)
async def test_a_token_that_says_something_else_is_refused(
    home: Household, issuer: Issuer, lies: dict[str, Any], sentence: str
) -> None:
    """COM-25: nonce, audience, issuer, times."""
    issuer.lies = lies
    with pytest.raises(ProviderRefused, match=sentence):
        await signed(home)


@pytest.mark.parametrize(
    "setting",
    [{"foreign_key": True}, {"signs_with": "none"}, {"signs_with": "HS256"}, {"names_key": "no-such-key"}],
)
async def test_a_token_that_the_issuer_did_not_sign_is_refused(
    home: Household, issuer: Issuer, setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """COM-25: another key, no signature, the public key taken for a secret, a key that is not published."""
    for name, value in setting.items():
        monkeypatch.setattr(issuer, name, value)
    with pytest.raises(ProviderRefused):
        await signed(home)


async def test_an_issuer_may_change_its_keys(home: Household, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-25: an unknown key has the set read again, at most every half minute."""
    await signed(home)
    await signed(home)
    assert issuer.keys_asked == 1
    issuer.rotate()
    with pytest.raises(ProviderRefused):
        await signed(home)
    assert issuer.keys_asked == 1
    later = time.time() + 31
    monkeypatch.setattr(home.identity.oidc, "_clock", lambda: later)
    assert (await signed(home)).subject == "p1"
    assert issuer.keys_asked == 2


async def test_the_way_back_is_the_one_that_was_begun_here(home: Household) -> None:
    """COM-25, RFC 9700: state, browser, provider, time; and a code that was used is used."""
    oidc = home.identity.oidc
    url, flow = await oidc.start("company")
    other_url, other_flow = await oidc.start("company")
    back = await come_back(url)
    for name, sealed, answer in (
        ("company", flow, back | {"state": "guessed"}),
        ("company", flow, {"code": back["code"]}),
        ("company", other_flow, back),  # begun in another browser
        ("company", "", back),
        ("company", flow[:-4] + "AAAA", back),
        ("hub", flow, back),
        ("company", flow, back | {"iss": "https://evil.example"}),
        ("company", flow, {"state": back["state"]}),
        ("company", flow, {"state": back["state"], "error": "access_denied"}),
        ("company", flow, back | {"code": "made-up"}),
    ):
        with pytest.raises(ProviderRefused):
            await oidc.finish(name, sealed, answer)
    assert await oidc.finish("company", flow, back)
    with pytest.raises(ProviderRefused):
        await oidc.finish("company", flow, back)
    assert await oidc.finish("company", other_flow, await come_back(other_url))


async def test_a_sign_in_that_took_too_long_is_begun_again(home: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-25: ten minutes."""
    url, flow = await home.identity.oidc.start("company")
    back = await come_back(url)
    later = time.time() + 601
    monkeypatch.setattr(home.identity.oidc, "_clock", lambda: later)
    with pytest.raises(ProviderRefused, match="too long ago"):
        await home.identity.oidc.finish("company", flow, back)


async def test_a_code_of_another_sign_in_proves_nothing(home: Household) -> None:
    """COM-25: PKCE; a stolen code needs the verifier, which never left the browser that began."""
    victim, _ = await home.identity.oidc.start("company")
    stolen = (await come_back(victim))["code"]
    url, flow = await home.identity.oidc.start("company")
    with pytest.raises(ProviderRefused):
        await home.identity.oidc.finish("company", flow, (await come_back(url)) | {"code": stolen})


async def test_an_issuer_that_is_away_or_poses_as_another_is_down(
    home: Household, issuer: Issuer, database_url: str, tmp_path: Path
) -> None:
    """COM-25, CMB-66: its description must name it; nobody of an unknown name is asked."""
    issuer.described_as = "https://evil.example"
    with pytest.raises(ProviderDown):
        await home.identity.oidc.start("company")
    with pytest.raises(UnknownProvider):
        await home.identity.oidc.start("nobody")
    nowhere = Providers({"away": Provider(client_id="c", issuer="http://127.0.0.1:9")})
    oidc = Oidc(nowhere, home.identity.vault, "https://phone.example.com")
    with pytest.raises(ProviderDown):
        await oidc.start("away")
    await oidc.close()


async def test_apples_secret_is_a_token_that_we_sign(home: Household, tmp_path: Path) -> None:
    """COM-25: for five minutes, by the team's key, and its answer comes as a form from a foreign page."""
    key = apple_key()
    path = tmp_path / "apple.p8"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    provider = Provider(
        client_id=CLIENT,
        issuer="https://appleid.apple.com",
        authorization_url="https://appleid.apple.com/auth/authorize",
        token_url="https://appleid.apple.com/auth/token",
        keys_url="https://appleid.apple.com/auth/keys",
        response_mode="form_post",
        team_id="TEAM",
        key_id="KEY",
        private_key_file=str(path),
    )
    oidc = Oidc(Providers({"apple": provider}), home.identity.vault, "https://phone.example.com")
    url, _ = await oidc.start("apple")
    assert asked_of(url)["response_mode"] == "form_post"
    assert asked_of(url)["redirect_uri"] == "https://phone.example.com/oidc/apple/callback"
    secret = oidc._secret(provider)
    claims = jwt.decode(secret, key.public_key(), algorithms=["ES256"], audience="https://appleid.apple.com")
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["iat"]) == ("TEAM", CLIENT, 300)
    assert jwt.get_unverified_header(secret)["kid"] == "KEY"
    assert oidc._secret(Provider(client_id=CLIENT, client_secret=SECRET, issuer="https://x")) == SECRET


# --- which account it is ---


async def test_the_first_word_opens_an_account_and_the_next_finds_it(home: Household) -> None:
    """COM-25: address proven by the provider; no password; nothing agreed to yet."""
    user, opened = await home.identity.linking.sign_in(await signed(home), HERE)
    assert (user.email, user.name, user.password_hash) == ("ada@example.com", "Ada", None)
    assert user.email_verified_at is not None
    assert opened.session.method == "oidc:company"
    assert not any((await home.identity.consents.holding(user.id)).values())
    assert user.adult_at is None
    again, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert again.id == user.id
    assert await home.actions(user) == ["account.opened", "identity.linked"]


async def test_a_word_is_linked_with_the_account_that_proved_the_address(home: Household) -> None:
    """COM-25: verified on both sides."""
    owner, _ = await home.proven("ada@example.com")
    user, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert user.id == owner.id
    other, _ = await home.identity.linking.sign_in(await signed(home, "hub"), HERE)
    assert other.id == owner.id


async def test_an_account_that_merely_named_the_address_gets_nothing(home: Household) -> None:
    """COM-25: else whoever opens an account with your address first is in your account later."""
    squatter, _ = await home.person("ada@example.com")
    user, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert user.id != squatter.id


@pytest.mark.parametrize("verified", [False, None, "false", 1, "yes"])
async def test_an_address_that_the_provider_has_not_verified_links_nothing(
    home: Household, issuer: Issuer, verified: Any
) -> None:
    """COM-25: the account is a new one, without an address."""
    owner, _ = await home.proven("ada@example.com")
    issuer.verified = verified
    user, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert user.id != owner.id
    assert user.email is None


async def test_apples_word_for_verified_is_understood(home: Household, issuer: Issuer) -> None:
    """COM-25: Apple sends it as a string."""
    issuer.verified = "true"
    assert (await signed(home)).email == "ada@example.com"


async def test_a_changed_address_at_the_provider_changes_no_account(home: Household, issuer: Issuer) -> None:
    """COM-25: the subject counts, and links once."""
    user, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    victim, _ = await home.proven("victim@example.com")
    issuer.person = {"sub": "p1", "email": "victim@example.com"}
    again, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert again.id == user.id != victim.id


async def test_one_person_twice_at_once_is_one_account(home: Household) -> None:
    """COM-25: two tabs."""
    people = [await signed(home) for _ in range(4)]
    found = await asyncio.gather(*(home.identity.linking.sign_in(person, HERE) for person in people))
    assert len({user.id for user, _ in found}) == 1
    assert await home.pool.fetchval("select count(*) from users") == 1


async def test_an_erased_account_is_opened_anew(home: Household) -> None:
    """COM-51: the link is gone with the rest."""
    user, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    await home.identity.accounts.erase(user.id)
    again, _ = await home.identity.linking.sign_in(await signed(home), HERE)
    assert again.id != user.id
