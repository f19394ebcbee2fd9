"""The file of providers is read as it says, or the server does not start and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.identity.providers import PRESETS, is_safe, read_providers
from infra.settings import SettingsError

CLIENT = 'client_id = "c"\nclient_secret = "s"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "providers.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_each_preset_needs_no_more_than_a_client(tmp_path: Path, preset: str) -> None:
    """COM-25: Google, GitHub, Apple and Facebook by configuration alone."""
    found = read_providers(written(tmp_path, f'[{preset}]\npreset = "{preset}"\n{CLIENT}')).by_name[preset]
    assert found.title
    assert found.issuer.startswith("https://")
    assert found.kind == ("oidc" if preset in ("google", "apple") else "oauth2")
    assert found.response_mode == ("form_post" if preset == "apple" else "query")


def test_any_further_issuer_is_added_by_its_address(tmp_path: Path) -> None:
    """COM-25."""
    text = (
        f'[company]\ntitle = "Company login"\nissuer = "https://login.example"\nscopes = ["openid", "email"]\n{CLIENT}'
    )
    found = read_providers(written(tmp_path, text)).by_name["company"]
    assert (found.title, found.kind, found.scopes) == ("Company login", "oidc", ("openid", "email"))
    assert read_providers(None).by_name == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[google\n", "cannot be read"),
        ('[google]\npreset = "gogle"\n' + CLIENT, "there is no preset 'gogle'; there are google"),
        ('[google]\npreset = "google"\n', "client_id"),
        ('[google]\npreset = "google"\nclient_secrt = "s"\n' + CLIENT, "client_secrt"),
        ("[company]\n" + CLIENT, "needs an issuer"),
        ('[company]\nissuer = "http://login.example"\n' + CLIENT, "issuer must begin with https://"),
        ('[Company]\nissuer = "https://login.example"\n' + CLIENT, "a name of lower-case letters"),
        ('company = "x"\n', "is a table"),
        ('[hub]\nkind = "oauth2"\nissuer = "https://hub.example"\n' + CLIENT, "needs authorization_url"),
    ],
)
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, text: str, sentence: str) -> None:
    """COM-25, COM-35: and the message names the provider and the field."""
    with pytest.raises(SettingsError, match=sentence):
        read_providers(written(tmp_path, text))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_providers(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.example", True),
        ("http://127.0.0.1:9000", True),
        ("http://localhost:9000", True),
        ("http://[::1]:9000", True),
        ("http://login.example", False),
        ("http://10.0.0.1", False),
        ("ftp://login.example", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_secrets_go_over_tls_or_not_at_all(url: str, safe: bool) -> None:
    """COM-36, COM-37: plain HTTP on this machine only."""
    assert is_safe(url) == safe
