"""The OpenAPI 3.1 document, made from the operations; https://spec.openapis.org/oas/v3.1.0.

What an operation may answer is what it `refuses` and what every operation of its kind may answer, so a status that is
missing here is a defect that the fuzzer finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from transports.http.access import ACCESS_COOKIE, CSRF_HEADER
from transports.http.api import Operation, PageQuery
from transports.http.problems import BASE, MEDIA_TYPE, PROBLEMS
from transports.http.serving import JSON, KEY_CHARS, KEY_HEADER

REF = "#/components/schemas/{name}"
Document = dict[str, Any]
PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong and what to do about it (RFC 9457). `type` is stable; a program may act on it.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "the field that broke a rule"},
        "rule": {"type": "string", "description": "the rule that it broke"},
    },
}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
    "operator": {"type": "http", "scheme": "bearer", "description": "NODE_OPERATOR_TOKEN, or an operator's token."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": ACCESS_COOKIE, "description": "Set when one signs in."},
    "csrf": {"type": "apiKey", "in": "header", "name": CSRF_HEADER, "description": "What ringdown_csrf says."},
}
LIMIT_HEADERS = {
    "RateLimit-Limit": "How many of these requests a minute allows.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until a place gets free.",
}
# One example of each kind of value that a format or a pattern asks for.
SAMPLES = {
    "date-time": "2026-11-22T09:00:00Z",
    "date": "2026-11-22",
    "uuid": "01930000-0000-7000-8000-000000000000",
    "email": "ada@example.com",
}
SAMPLE_ID = "0" * 32


def document(operations: Sequence[Operation], url: str) -> Document:
    """The document of these operations, served at `url`."""
    types = list(dict.fromkeys(kind for made in operations for kind in (made.body, made.answers) if kind is not None))
    refs, schemas = msgspec.json.schema_components(types, ref_template=REF)
    known = dict(zip(types, refs, strict=True))
    schemas["Problem"] = PROBLEM
    paths: dict[str, Document] = {}
    for made in operations:
        paths.setdefault(made.path, {})[made.method.lower()] = described(made, known)
    told = {
        "openapi": "3.1.0",
        "info": {
            "title": "Ringdown",
            "version": "1",
            "description": "Phone companions: accounts, personas, calls now and later, money.",
        },
        "servers": [{"url": url}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SCHEMES},
    }
    return dict(portable(told))


def described(made: Operation, known: dict[Any, Document]) -> Document:
    """One operation."""
    told: Document = {
        "operationId": made.name,
        "summary": made.summary,
        "tags": [made.tag],
        "security": security(made),
        "parameters": [*path_parameters(made), *query_parameters(made), *header_parameters(made)],
        "responses": {str(made.status): success(made, known), **refusals(made)},
    }
    if made.description:
        told["description"] = made.description
    if made.body is not None:
        content = {"schema": known[made.body], "examples": {"runs": {"value": example_body(made)}}}
        told["requestBody"] = {"required": True, "content": {JSON: content}}
    return told


def kinds(made: Operation) -> list[str]:
    """Every kind of problem that an operation may answer with."""
    found = [*made.refuses, "foreign-origin", "token-in-address", "too-many-requests", "database-down"]
    if made.who != "public":
        found.append("not-authorised")
        found += [] if made.safe else ["csrf-missing"]
    if made.who == "operator":
        found.append("operators-only")
    if made.variables:
        found.append(made.missing)
    if made.body is not None:
        found += ["malformed-json", "body-too-large", "not-json", "invalid-field"]
    if made.query is not None:
        found += ["invalid-field", *(["invalid-cursor"] if issubclass(made.query, PageQuery) else [])]
    if made.idempotent:
        found += ["idempotency-running", "idempotency-key-reused", "idempotency-key-invalid"]
    return list(dict.fromkeys(found))


def security(made: Operation) -> list[Document]:
    """Any one of these proves who asks."""
    if made.who == "public":
        return []
    cookie: Document = {"cookie": []} if made.safe else {"cookie": [], "csrf": []}
    return [{"operator" if made.who == "operator" else "bearer": []}, cookie]


def path_parameters(made: Operation) -> Iterable[Document]:
    """The variables of the path."""
    for name, pattern in made.variables.items():
        sample = f"{name.split('_')[0]}_{SAMPLE_ID}"
        told = {"name": name, "in": "path", "required": True}
        schema: Document = {"type": "string", "pattern": f"^{pattern.pattern}$"}
        yield told | {"schema": schema} | ({"example": sample} if pattern.fullmatch(sample) else {})


def query_parameters(made: Operation) -> Iterable[Document]:
    """The fields of the query; null stands for a field that is not sent."""
    if made.query is None:
        return
    _, schemas = msgspec.json.schema_components([made.query], ref_template=REF)
    struct = schemas[made.query.__name__]
    for name, schema in struct["properties"].items():
        told: Document = {"name": name, "in": "query", "required": name in struct.get("required", [])}
        plain = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
        choices = [choice for choice in plain.pop("anyOf", []) if choice.get("type") != "null"]
        if len(choices) == 1:
            plain = choices[0] | plain
        elif choices:
            plain["anyOf"] = choices
        if description := plain.pop("description", None):
            told["description"] = description
        yield told | {"schema": resolved(plain, schemas)}


def resolved(schema: Any, schemas: Document) -> Any:
    """A schema of a query's field with its references put in their places, since it lies outside of the components."""
    if isinstance(schema, list):
        return [resolved(item, schemas) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return resolved(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    return {key: resolved(value, schemas) for key, value in schema.items()}


def header_parameters(made: Operation) -> Iterable[Document]:
    """The headers that an operation reads."""
    if made.idempotent:
        yield {
            "name": KEY_HEADER,
            "in": "header",
            "required": False,
            "description": "The same key with the same body gets the same answer, and nothing is done twice.",
            "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS, "pattern": "^[!-~]+$"},
        }


def success(made: Operation, known: dict[Any, Document]) -> Document:
    """What is answered when all is well."""
    headers = dict(LIMIT_HEADERS)
    if made.status in {201, 302, 303}:
        headers["Location"] = "Where it is." if made.status == 201 else "Where to go on."
    told: Document = {"description": made.summary, "headers": header_schemas(headers)}
    if made.answers is not None:
        told["content"] = {made.media or JSON: {"schema": known[made.answers]}}
    elif made.media is not None:
        told["content"] = {made.media: {"schema": {} if made.media == JSON else {"type": "string"}}}
    return told


def refusals(made: Operation) -> Document:
    """The problems by their status, each with an example."""
    by_status: dict[int, list[str]] = {}
    for kind in kinds(made):
        by_status.setdefault(PROBLEMS[kind][0], []).append(kind)
    return {str(status): refusal(status, by_status[status]) for status in sorted(by_status)}


def refusal(status: int, found: Sequence[str]) -> Document:
    """One status of problems."""
    examples = {
        kind: {"value": {"type": BASE + kind, "title": PROBLEMS[kind][1], "status": status, "detail": "What to do."}}
        for kind in found
    }
    headers = dict(LIMIT_HEADERS) if status != 403 else {}
    if status in {409, 429, 502, 503}:
        headers["Retry-After"] = "Seconds to wait, where waiting helps."
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return {
        "description": "; ".join(PROBLEMS[kind][1] for kind in found),
        "headers": header_schemas(headers),
        "content": {MEDIA_TYPE: {"schema": {"$ref": REF.format(name="Problem")}, "examples": examples}},
    }


def header_schemas(headers: dict[str, str]) -> Document:
    """Headers of an answer; none is promised, since what refuses early sends fewer."""
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}


def example_body(made: Operation) -> Any:
    """A body that the operation takes: its own example, or one made from the schema."""
    if made.example is not None:
        return msgspec.to_builtins(made.example)
    refs, schemas = msgspec.json.schema_components([made.body], ref_template=REF)
    return sample(refs[0], schemas)


def sample(schema: Document, schemas: Document) -> Any:
    """A value that fits a schema; optional fields only where they say an example themselves."""
    if "$ref" in schema:
        return sample(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema and schema["default"] is not None:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        if choice.get("type") != "null":
            return sample(choice, schemas)
    match schema.get("type"):
        case "object":
            required = schema.get("required", [])
            fields = schema.get("properties", {}).items()
            return {name: sample(field, schemas) for name, field in fields if name in required or exemplary(field)}
        case "array":
            return [sample(schema.get("items", {}), schemas)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", schema.get("maximum", 1))
        case "boolean":
            return True
        case "string":
            return SAMPLES.get(schema.get("format", ""), "a" * max(schema.get("minLength", 1), 4))
    return None


def exemplary(field: Document) -> bool:
    """Whether a field, or one of the forms that it may have, gives an example of itself."""
    return any(form.get("examples") for form in (field, *field.get("anyOf", ())))


def portable(value: Any) -> Any:
    r"""The document with its patterns in the dialect of JSON Schema, which writes `\Z` as `$`."""
    if isinstance(value, dict):
        return {
            key: re.sub(r"\\Z$", "$", inner) if key == "pattern" and isinstance(inner, str) else portable(inner)
            for key, inner in value.items()
        }
    return [portable(item) for item in value] if isinstance(value, list) else value
