"""A node is told everything once, at start; wrong settings stop it and say what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from infra.settings import Section, Settings, SettingsError, load, variables
from infra.telemetry import secrets_of

SAMPLE = Path(__file__).parents[2] / "settings.sample.env"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env of the developer's


def default_of(name: str) -> object:
    """The default of the setting that this variable holds."""
    value: object = Settings()
    for part in variables()[name]:
        value = getattr(value, part)
    return value


def test_the_sample_lists_every_variable_with_its_default_and_nothing_else() -> None:
    listed = dotenv_values(SAMPLE)
    assert list(listed) == list(variables())
    assert load(SAMPLE, environ={}) == Settings()
    for name in variables():
        value = default_of(name)
        value = value.get_secret_value() if isinstance(value, SecretStr) else value
        expected = "" if value is None or name == "NODE_NAME" else str(value)
        assert listed[name] == expected, name


def test_the_sample_explains_itself() -> None:
    assert SAMPLE.read_text().count("\n# ") > len(variables()) / 2


def test_the_environment_goes_before_the_file_and_overrides_before_both(tmp_path: Path) -> None:
    file = tmp_path / "node.env"
    file.write_text("NODE_PORT=1001\nNODE_BIND=0.0.0.0\nCALLS_PERSONA=file\n")
    settings = load(file, environ={"NODE_PORT": "1002", "NODE_BIND": "::1", "UNRELATED": "x"}, node_port=1003)
    assert (settings.node.port, settings.node.bind, settings.calls.persona) == (1003, "::1", "file")


def test_a_file_named_dotenv_in_the_working_folder_is_read_by_itself(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CALLS_PER_HOST=3\n")
    assert load(environ={}).calls.per_host == 3


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    file = tmp_path / "node.env"
    file.write_text("DATABASE_URL=postgresql://file/name\nREDIS_URL=\n")
    settings = load(file, environ={"DATABASE_URL": "", "REDIS_URL": "redis://environment"})
    assert settings.database_url.get_secret_value() == "postgresql://file/name"
    assert settings.redis_url.get_secret_value() == "redis://environment"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"TWILIO_AUTH_TOKN": "x"},
            "Unknown setting TWILIO_AUTH_TOKN in the environment. Did you mean TWILIO_AUTH_TOKEN?",
        ),
        (
            {"CALLS_ZZZZZZZZ": "x"},
            "Unknown setting CALLS_ZZZZZZZZ in the environment. Remove it; settings.sample.env",
        ),
        ({"NODE_PORTS": "1"}, "Did you mean NODE_PORT?"),
        ({"NODE_PORT": "eighty"}, "NODE_PORT: Input should be a valid integer"),
        (
            {"NODE_PORT": "70000"},
            "NODE_PORT: Input should be less than or equal to 65535; change it from '70000'.",
        ),
        ({"NODE_NAME": "two words"}, "NODE_NAME: String should match pattern"),
        (
            {"ENVIRONMENT": "prod"},
            "ENVIRONMENT: Input should be 'development' or 'production'; change it from 'prod'.",
        ),
        (
            {"SPEECH_LISTENER": "deepgram"},
            "SPEECH_LISTENER=deepgram needs DEEPGRAM_API_KEY: set it or choose 'auto'.",
        ),
        (
            {"SPEECH_VOICE": "elevenlabs"},
            "SPEECH_VOICE=elevenlabs needs ELEVENLABS_API_KEY: set it or choose 'auto'.",
        ),
        ({"SPEECH_BRAIN": "model"}, "SPEECH_BRAIN=model needs CEREBRAS_API_KEY or OPENAI_API_KEY"),
        ({"SPEECH_VOICE": "piper"}, "piper needs SPEECH_WEIGHTS: set it to the folder of its weights."),
        (
            {"CALLS_WARM_HOSTS": "5"},
            "CALLS_WARM_HOSTS is more than CALLS_MAX_HOSTS: lower the one or raise the other.",
        ),
        ({"NODE_PUBLIC_URL": "calls.example.com"}, "NODE_PUBLIC_URL must start with https:// or http://."),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL must start with postgresql:// or postgres://."),
        ({"DEEPGRAM_URL": "https://x"}, "DEEPGRAM_URL must start with wss:// or ws://."),
    ],
)
def test_wrong_settings_give_one_sentence_that_says_what_to_change(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    assert sentence in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith((".", "?"))


def test_unknown_names_in_the_file_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "node.env"
    file.write_text("NODE_PROT=1\n")
    with pytest.raises(SettingsError, match=r"node\.env: unknown setting NODE_PROT\. Did you mean NODE_PORT\?"):
        load(file, environ={})
    with pytest.raises(SettingsError, match=r"There is no settings file .*missing\.env; copy settings\.sample\.env"):
        load(tmp_path / "missing.env", environ={})


def test_variables_of_other_programs_are_left_alone() -> None:
    assert load(environ={"NODE_PATH": "/x", "NODE_ENV": "y", "OPENAI_BASE_URL": "z", "PATH": "/bin"}) == Settings()


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ={"NODE_PORT": "x", "CALLS_PER_HOST": "0"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["NODE_PORT", "CALLS_PER_HOST"]


def test_secrets_never_appear_in_what_settings_say_of_themselves() -> None:
    """COM-56: no secret reaches a log by way of repr, str, JSON or an error."""
    named = [name for name in variables() if isinstance(default_of(name), SecretStr)]
    public = {"STRIPE_PUBLISHABLE_KEY"}  # for browsers to read
    assert {name for name in variables() if name.endswith(("_KEY", "_TOKEN", "_SECRET"))} - public < {*named}
    schemes = {"DATABASE_URL": "postgresql://", "REDIS_URL": "redis://", "MAIL_SMTP_URL": "smtp://"}
    settings = load(environ={name: f"{schemes.get(name, '')}hidden-{name}" for name in named})
    assert sum("hidden-" in secret for secret in secrets_of(settings)) == len(named)
    for said in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.twilio)):
        assert "hidden-" not in said
    with pytest.raises(SettingsError) as caught:
        load(environ={"DATABASE_URL": "mysql://hidden-password", "OPENAI_API_KEY": "hidden-key"})
    assert "hidden-" not in str(caught.value)


def test_the_public_address_is_where_we_listen_unless_it_is_told() -> None:
    assert load(environ={"NODE_PORT": "81"}).public_url == "http://127.0.0.1:81"
    assert load(environ={"NODE_PUBLIC_URL": "https://calls.example.com/"}).public_url == "https://calls.example.com"


def test_every_section_refuses_what_it_does_not_know() -> None:
    assert all(
        issubclass(field.annotation, Section) and field.annotation.model_config["extra"] == "forbid"
        for field in Settings.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    )
