"""Who else may say who somebody is: read from the file ACCOUNTS_OIDC_FILE (COM-25).

    [google]                                   # the name in our addresses
    preset = "google"                          # google, github, apple, facebook; or none, and an `issuer` instead
    client_id = "…"
    client_secret = "…"

    [company]
    title = "Company login"
    issuer = "https://login.company.example"   # its endpoints are read from its own description
    client_id = "…"
    client_secret = "…"

Two shapes exist. An OpenID Connect issuer answers with a signed ID token. A plain OAuth 2.0 server (GitHub, Facebook)
answers with an access token, by which the person's record is asked for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from infra.settings import SettingsError

NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
# What may sign an ID token: by public keys only. A shared secret, or none, would let others than the issuer sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of them. For an OpenID Connect issuer the endpoints may be left out."""

    client_id: str
    client_secret: str = ""
    title: str = ""
    kind: Literal["oidc", "oauth2"] = "oidc"
    issuer: str = ""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    authorization_url: str = ""
    token_url: str = ""
    keys_url: str = ""
    person_url: str = ""
    emails_url: str = ""  # where a list of addresses says which are verified
    subject_field: str = "sub"
    response_mode: Literal["query", "form_post"] = "query"
    team_id: str = ""  # Apple: the client secret is a token that we sign
    key_id: str = ""
    private_key_file: str = ""


PRESETS: dict[str, dict[str, Any]] = {
    "google": {"title": "Google", "issuer": "https://accounts.google.com"},
    "apple": {
        "title": "Apple",
        "issuer": "https://appleid.apple.com",
        "scopes": ("openid", "email", "name"),
        "response_mode": "form_post",  # Apple's rule for whoever asks for the address
    },
    "github": {
        "title": "GitHub",
        "kind": "oauth2",
        "issuer": "https://github.com",
        "scopes": ("read:user", "user:email"),
        "authorization_url": "https://github.com/login/oauth/authorize",
        "token_url": "https://github.com/login/oauth/access_token",
        "person_url": "https://api.github.com/user",
        "emails_url": "https://api.github.com/user/emails",
        "subject_field": "id",
    },
    "facebook": {
        "title": "Facebook",
        "kind": "oauth2",
        "issuer": "https://www.facebook.com",
        "scopes": ("public_profile", "email"),
        "authorization_url": "https://www.facebook.com/v23.0/dialog/oauth",
        "token_url": "https://graph.facebook.com/v23.0/oauth/access_token",
        "person_url": "https://graph.facebook.com/v23.0/me?fields=id,name",  # it never calls an address verified
        "subject_field": "id",
    },
}


@dataclass(frozen=True)
class Providers:
    """Those that are configured, by name."""

    by_name: Mapping[str, Provider] = field(default_factory=dict)


def read_providers(file: Path | None) -> Providers:
    """The providers that a file names; none without one.

    Raises:
        SettingsError: it cannot be read; the message names the provider and the field.
    """
    if file is None:
        return Providers()
    try:
        document = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"ACCOUNTS_OIDC_FILE={file} cannot be read: {error}.") from error
    return Providers({name: _provider(file, name, told) for name, told in document.items()})


def _provider(file: Path, name: str, told: Any) -> Provider:
    def wrong(why: str) -> SettingsError:
        return SettingsError(f"{file}, [{name}]: {why}.")

    if not NAME.fullmatch(name) or not isinstance(told, dict):
        raise wrong("a provider is a table with a name of lower-case letters, digits and hyphens")
    given = dict(told)
    preset = given.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise wrong(f"there is no preset {preset!r}; there are {', '.join(PRESETS)}")
    try:
        found = msgspec.convert({"title": name.title()} | PRESETS.get(preset, {}) | given, Provider)
    except msgspec.ValidationError as error:
        raise wrong(str(error)) from error
    if not found.issuer:
        raise wrong("it needs an issuer, or a preset")
    if found.kind == "oauth2" and not (found.authorization_url and found.token_url and found.person_url):
        raise wrong("OAuth 2.0 needs authorization_url, token_url and person_url")
    addresses = ("issuer", "authorization_url", "token_url", "keys_url", "person_url", "emails_url")
    if insecure := [field for field in addresses if not is_safe(getattr(found, field))]:
        raise wrong(f"{', '.join(insecure)} must begin with https://")
    return found


def is_safe(url: str) -> bool:
    """Whether secrets may be sent there: over TLS, or on this machine."""
    if not url:
        return True
    there = urlsplit(url)
    if there.scheme == "http":
        try:
            return there.hostname == "localhost" or ip_address(there.hostname or "").is_loopback
        except ValueError:
            return False
    return there.scheme == "https"
