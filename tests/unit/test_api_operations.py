"""Operations are recorded as they are written, and what does not agree is found at once."""

from __future__ import annotations

import ast
import importlib
import types
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.cursors import key_of
from tests.doubles.notebook import Filter, NewNote, Note, Notebook
from transports.http.api import Ask, Operation, Page, operation, operation_of, page
from transports.http.openapi import kinds
from transports.http.problems import PROBLEMS, Problem, problem_kinds, problem_of, translate
from transports.http.routes import RESOURCES, operations, operations_in

ELSEWHERE = {"finish_posted_oidc": "a provider's own page posts there, which no foreign page may do under /v1"}
OPEN_QUERIES = {"finish_oidc": "providers send more than they agreed to"}
REPEATABLE = {
    "offer_factor": "a secret is shown once",
    "give_consent": "the newest word holds, and every one is on record",
    "stop_calls": "stopping twice is stopping",
}
HTTP = Path(__file__).parents[2] / "transports" / "http"


def by_name(name: str) -> Operation:
    return next(made for made in Notebook().operations() if made.name == name)


def test_a_handler_says_itself_what_it_takes() -> None:
    """COM-31: nothing about an operation is written down twice."""
    write, listing, read = by_name("write_note"), by_name("list_notes"), by_name("read_note")
    assert (write.body, write.query, write.variables) == (NewNote, None, {})
    assert (listing.body, listing.query) == (None, Filter)
    assert list(read.variables) == ["note"]
    assert (write.limit, listing.limit, write.tag, write.summary) == ("write", "read", "notes", "Write a note")
    assert read.missing == "note-not-found"


def test_a_path_and_its_handler_that_do_not_agree_are_an_error() -> None:
    @operation("GET", "/v1/things/{thing}")
    async def read_thing(ask: Ask, other: str) -> None:
        """Read."""

    with pytest.raises(TypeError, match="other, thing"):
        _ = operation_of(read_thing).body


def test_a_handler_without_a_record_is_named() -> None:
    async def lost() -> None:
        """Nothing."""

    with pytest.raises(LookupError, match="@operation"):
        operation_of(lost)


def test_two_operations_cannot_share_an_address() -> None:
    module = types.ModuleType("twins")

    async def one(ask: Ask, x: str) -> None:
        """One."""

    async def two(ask: Ask, y: str) -> None:
        """Two."""

    one.__module__ = two.__module__ = "twins"
    module.one = operation("GET", "/v1/a/{x}")(one)  # type: ignore[attr-defined]
    module.two = operation("GET", "/v1/a/{y}")(two)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="twice"):
        operations(module)


def test_a_page_knows_whether_there_is_another() -> None:
    """COM-32: `next` is there exactly when rows are left."""
    rows = [3, 2, 1]
    full = page(rows, 2, lambda row: (row,), str)
    assert full.items == ["3", "2"]
    assert full.next is not None
    assert key_of(full.next, int) == (2,)
    assert page(rows, 3, lambda row: (row,), str) == Page(["3", "2", "1"], None)
    assert page([], 3, lambda row: (row,), str) == Page([], None)


def every() -> list[Any]:
    return [pytest.param(made, id=made.name) for made in operations()]


@pytest.mark.parametrize("made", every())
def test_every_operation_is_fully_described(made: Operation) -> None:
    """CMB-11: a summary, an address under /v1, known problems, types that have a schema, no doubtful mix."""
    assert made.path.startswith("/v1/") or made.name in ELSEWHERE
    assert made.summary
    assert not made.summary.endswith(".")
    assert all(kind in PROBLEMS for kind in kinds(made)), made.refuses
    assert made.body is None or not made.safe
    assert made.answers is None or made.media is None
    assert not made.idempotent or (made.method == "POST" and made.who == "user")
    for struct in (made.body, made.query if made.name not in OPEN_QUERIES else None):
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            assert struct.__struct_config__.forbid_unknown_fields, f"{struct.__name__} takes fields that it ignores"


def test_whatever_makes_costs_or_dials_can_be_sent_again() -> None:
    """COM-32: it takes an Idempotency-Key; exceptions by name, each with its reason."""
    making = {made.name for made in operations() if (made.method, made.who, made.status) == ("POST", "user", 201)}
    keyed = {made.name for made in operations() if made.idempotent}
    assert making - keyed == set(REPEATABLE)
    assert {"create_call", "refund_call", "add_number"} <= keyed


def test_every_module_with_operations_is_listed() -> None:
    """COM-31: a resource that is written is also served, so no sweep can miss it."""
    writing = {
        path.stem
        for path in HTTP.glob("*.py")
        if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and decorated(node) for node in tree(path).body)
    }
    listed = {module.__name__.rpartition(".")[2] for module in RESOURCES} | {"routes"}
    assert writing == listed
    for name in writing:
        assert list(operations_in(importlib.import_module(f"transports.http.{name}"))), name


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def decorated(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    calls = (made for made in node.decorator_list if isinstance(made, ast.Call))
    return any(isinstance(made.func, ast.Name) and made.func.id == "operation" for made in calls)


def test_a_problem_of_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(LookupError, match="problem_kinds"):
        Problem("no-such-kind", "What?")


def test_a_kind_means_one_thing() -> None:
    """COM-31: `type` is stable."""
    problem_kinds({"not-found": PROBLEMS["not-found"]})
    with pytest.raises(ValueError, match="already"):
        problem_kinds({"not-found": (410, "Gone")})


def test_a_problem_says_what_a_program_needs_and_keeps_its_own_members() -> None:
    """CMB-15: RFC 9457, with members of its own that cannot hide the others."""
    told = Problem("invalid-field", "Too long.", more={"field": "name", "status": 200}).document()
    assert told == {
        "type": "https://ringdown.dev/problems/invalid-field",
        "title": "A field is not as it must be",
        "status": 422,
        "detail": "Too long.",
        "field": "name",
    }


def test_an_error_of_a_lower_layer_becomes_the_problem_its_module_says() -> None:
    class Broke(Exception):
        """No money."""

    class VeryBroke(Broke):
        """None at all."""

    translate(Broke, lambda error: Problem("invalid-field", f"told: {error}"))
    assert problem_of(VeryBroke("x")).detail == "told: x"
    assert problem_of(RuntimeError("secret")).detail.startswith("Something went wrong")


def test_notes_are_what_they_seem() -> None:
    assert msgspec.json.decode(b'{"text": "x"}', type=NewNote) == NewNote("x", 0)
    assert Note("note_1", "user_1", "x").text == "x"
