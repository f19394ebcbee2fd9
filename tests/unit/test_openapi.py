"""The OpenAPI document says what the API does: every operation, every answer, examples that run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from tests.doubles.notebook import Notebook
from transports.http.api import Operation
from transports.http.openapi import document, example_body, kinds
from transports.http.problems import PROBLEMS
from transports.http.routes import operations

URL = "https://phone.example.com"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def every() -> list[Any]:
    return [pytest.param(made, id=made.name) for made in (*operations(), *Notebook().operations())]


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """The document as a client reads it."""
    whole = document((*operations(), *Notebook().operations()), URL)
    return dict(msgspec.json.decode(msgspec.json.encode(whole)))


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


@pytest.mark.parametrize("made", every())
def test_every_operation_is_documented_with_every_status_it_may_answer(made: Operation, told: dict[str, Any]) -> None:
    """COM-31: generated from the records, so none is missing."""
    described = told["paths"][made.path][made.method.lower()]
    statuses = {str(made.status), *(str(PROBLEMS[kind][0]) for kind in kinds(made))}
    assert set(described["responses"]) == statuses
    assert {"403", "429", "503"} <= statuses
    assert "401" in statuses or made.who == "public"
    assert bool(described["security"]) == (made.who != "public")
    assert bool(made.variables) <= ("404" in statuses)
    for status, answer in described["responses"].items():
        if int(status) >= 400:
            assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("made", [made for made in every() if made.values[0].body is not None])
def test_the_example_of_every_body_runs(made: Operation, told: dict[str, Any]) -> None:
    """CMB-11: what the documentation shows is taken as it stands, by the schema and by the server."""
    example = example_body(made)
    msgspec.json.decode(msgspec.json.encode(example), type=made.body)
    content = told["paths"][made.path][made.method.lower()]["requestBody"]["content"]["application/json"]
    assert content["examples"]["runs"]["value"] == example
    jsonschema_rs.Draft202012Validator(content["schema"] | {"components": told["components"]}).validate(example)


def test_every_schema_is_one_and_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    """COM-31: OpenAPI 3.1 schemas are JSON Schema 2020-12."""
    assert told["openapi"] == "3.1.0"
    schemas = told["components"]["schemas"]
    assert not [name for name in schemas if not re.fullmatch("[A-Za-z0-9_]+", name)], "two structs have one name"
    for schema in schemas.values():
        jsonschema_rs.meta.validate({"$schema": DIALECT} | schema)
    for node in nodes(told):
        if "$ref" in node:
            prefix, _, name = node["$ref"].rpartition("/")
            assert (prefix, name in schemas) == ("#/components/schemas", True)
        if isinstance(node.get("pattern"), str):
            assert "\\Z" not in node["pattern"]
            re.compile(node["pattern"])


def test_names_of_operations_are_unique_and_variables_are_declared(told: dict[str, Any]) -> None:
    names = []
    for path, methods in told["paths"].items():
        for described in methods.values():
            names.append(described["operationId"])
            declared = {one["name"] for one in described["parameters"] if one["in"] == "path"}
            assert declared == set(re.findall(r"{([a-z_]+)}", path))
    assert len(names) == len(set(names))


def test_a_query_says_what_each_field_may_be(told: dict[str, Any]) -> None:
    """COM-32: limits and defaults are there; null is no text that one could send."""
    listing = told["paths"]["/v1/notes"]["get"]["parameters"]
    fields = {one["name"]: one for one in listing}
    assert fields["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 100, "default": 50}
    assert fields["after"]["schema"]["type"] == "string"
    assert not any(one["required"] for one in listing)
    writing = told["paths"]["/v1/notes"]["post"]["parameters"]
    assert [(one["name"], one["in"]) for one in writing] == [("Idempotency-Key", "header")]
