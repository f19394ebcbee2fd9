"""The console's words: every one in every language, none missing, none left over, no sentence outside the tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from infra.database.call_states import Reason, State
from transports.http.routes import operations

CONSOLE = Path(__file__).parents[2] / "transports" / "http" / "console"
LANGUAGES = ("en", "tr", "ko")
KEY = re.compile(r'"([a-z]+\.[a-z0-9_-]+)"')  # a literal that can only be a key
ASKED = re.compile(r'\bt\("([^"]+)"')
FAMILY = re.compile(r'\bt\(`([a-z_.]+)\$\{|\btell\("(\w+)"')
COUNTED = re.compile(r'\btn\("([^"]+)"')
HOLE = re.compile(r"\{(\w+)\}")
SENTENCE = re.compile(r'"([A-Z][a-z]+(?: [a-zA-Z,’\'-]+){2,}[.!?]?)"')


def scripts() -> dict[str, str]:
    """Every script of the console but the service worker, which says nothing."""
    return {
        path.relative_to(CONSOLE).as_posix(): path.read_text()
        for path in sorted(CONSOLE.rglob("*.js"))
        if path.name != "sw.js"
    }


def words(language: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((CONSOLE / "i18n" / f"{language}.json").read_text())
    return found


def wanted() -> tuple[set[str], set[str]]:
    """The keys that the scripts name, and the beginnings of those that they put together."""
    keys: set[str] = set()
    families: set[str] = {"problem."}
    for script in scripts().values():
        keys |= set(KEY.findall(script)) | set(ASKED.findall(script))
        keys |= {f"{key}_{form}" for key in COUNTED.findall(script) for form in ("one", "other")}
        families |= {whole or f"{told}." for whole, told in FAMILY.findall(script)}
    return keys, families


def test_every_key_stands_in_every_language() -> None:
    """COM-69: a key that is missing in one language fails the build."""
    for language in LANGUAGES[1:]:
        assert list(words(language)) == list(words("en")), language


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_is_empty_and_none_is_only_the_english_one(language: str) -> None:
    """COM-69: a translation says something, with the same holes to fill."""
    english = words("en")
    for key, text in words(language).items():
        assert text.strip(), key
        assert sorted(HOLE.findall(text)) == sorted(HOLE.findall(english[key])), key
    if language != "en":
        same = [key for key, text in words(language).items() if text == english[key] and len(HOLE.sub("", text)) > 12]
        assert same == []


def test_every_key_that_a_script_names_is_there() -> None:
    """COM-69: nobody is ever shown a key."""
    keys, _ = wanted()
    assert sorted(keys - set(words("en"))) == []


def test_no_key_is_left_over() -> None:
    """COM-69: what nobody says is not translated."""
    keys, families = wanted()
    unused = [key for key in words("en") if key not in keys and not key.startswith(tuple(families))]
    assert unused == []


@pytest.mark.parametrize("state", State)
def test_every_state_of_a_call_has_words(state: State) -> None:
    """CMB-19: whatever becomes of a call can be told."""
    assert f"state.{state}" in words("en")


@pytest.mark.parametrize("reason", Reason)
def test_every_end_of_a_call_has_words(reason: Reason) -> None:
    """CMB-15: whatever ended a call, its owner is told in their language."""
    assert f"ended.{reason}" in words("en")


def test_every_refusal_that_a_user_can_meet_has_words() -> None:
    """COM-69, CMB-15: a problem's own sentence is English; whoever reads another language is told in theirs."""
    # Devices are identities of apps; no view of the console knows them.
    used = [made for made in operations() if made.who != "operator" and made.tag != "devices"]
    kinds = {kind for made in used for kind in made.refuses}
    assert sorted(kind for kind in kinds if f"problem.{kind}" not in words("en")) == []


def test_no_sentence_stands_in_a_script() -> None:
    """COM-69: words live in the tables; a script has none of its own."""
    found = {
        (name, sentence) for name, script in scripts().items() for sentence in SENTENCE.findall(uncommented(script))
    }
    assert found == set()


def uncommented(script: str) -> str:
    without = re.sub(r"/\*.*?\*/", "", script, flags=re.DOTALL)
    return re.sub(r"(^|\s)//.*", "", without)


def test_scripts_keep_the_budgets_of_the_house_and_build_no_markup_from_strings() -> None:
    """Style: 500 lines a file. COM-34: nobody's words can become markup or code."""
    for name, script in scripts().items():
        assert len(script.splitlines()) <= 500, name
        for risky in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert risky not in script, f"{name}: {risky}"


def test_nothing_is_loaded_from_elsewhere_but_the_card_processors_form() -> None:
    """COM-08: no third-party host, no build step; CMB-56: cards are typed into the processor's own form."""
    addresses = {
        address
        for path in CONSOLE.rglob("*")
        if path.suffix in {".js", ".css", ".html", ".webmanifest"}
        for address in re.findall(r"https?://[^\s\"'`)]+", path.read_text())
    }
    assert addresses == {"https://js.stripe.com/v3/", "http://www.w3.org/2000/svg"}
    imported = {
        target
        for script in scripts().values()
        for target in re.findall(r'^import .* from "([^"]+)"', script, flags=re.MULTILINE)
    }
    assert all(target.startswith(".") for target in imported)
