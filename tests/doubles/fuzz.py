"""Every operation asked with what fits its schema and what does not, by schemathesis; what it answers is checked."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
Operation = APIOperation[Any, Any, Any, Any]
STREAM = "text/event-stream"
SECONDS = 20.0


@dataclass
class Found:
    """What a run of the fuzzer came to."""

    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    operations: dict[str, Counter[int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def note(self, label: str, status: int) -> None:
        self.cases += 1
        self.statuses[str(status)] += 1
        self.operations.setdefault(label, Counter())[status] += 1

    @property
    def report(self) -> str:
        """The failures, the first of each operation."""
        return "\n\n".join(f"{label}\n{text}" for label, text in self.failures.items())


def fuzz(
    url: str,
    document: Mapping[str, Any],
    proofs: Mapping[str, Mapping[str, str]],
    ids: Mapping[str, list[str]],
    cases: int,
    seed: int | None = None,
) -> Found:
    """Ask every operation of the document in `cases` ways of each sort; blocks, so give it a thread.

    Args:
        proofs: headers that prove who asks, by the name of the security scheme.
        ids: things that exist, by the variable that names them in a path.
    """
    schema = schemathesis.openapi.from_dict(dict(document), config=schemathesis.Config())
    found = Found()
    with requests.Session() as session:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation: Operation = result.ok()
            for strategy in strategies(operation, ids):
                with contextlib.suppress(Unsatisfiable):  # nothing that does not fit: it takes nothing
                    attempt(operation, strategy, Target(url, session, proof(operation, proofs)), found, cases, seed)
    return found


@dataclass(frozen=True)
class Target:
    """Where and as whom to ask."""

    url: str
    session: requests.Session
    headers: Mapping[str, str]


def strategies(operation: Operation, ids: Mapping[str, list[str]]) -> Iterator[Any]:
    """Ways to make requests: fitting and not, to things that exist and to others."""
    yield operation.as_strategy(GenerationMode.POSITIVE)
    yield operation.as_strategy(GenerationMode.NEGATIVE)
    names = [parameter.name for parameter in operation.path_parameters]
    if names and all(name in ids for name in names):
        real = {name: ids[name][0] for name in names}
        yield operation.as_strategy(GenerationMode.POSITIVE, path_parameters=real)


def proof(operation: Operation, proofs: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """The headers that the operation wants."""
    for requirement in operation.definition.raw.get("security", []):
        for name in requirement:
            if name in proofs:
                return proofs[name]
    return {}


def attempt(operation: Operation, strategy: Any, target: Target, found: Found, cases: int, seed: int | None) -> None:
    """Ask one operation in many ways of one sort; the first failure ends it."""
    streams = any(STREAM in answer.get("content", {}) for answer in operation.definition.raw["responses"].values())

    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=seed is None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @hypothesis.given(case=strategy)
    def ask(case: Case[Operation]) -> None:
        if streams:
            found.note(operation.label, begin(case, target))
            return
        response = case.call(target.url, target.session, dict(target.headers), timeout=SECONDS)
        found.note(operation.label, response.status_code)
        case.validate_response(response, checks=list(CHECKS))

    run = hypothesis.seed(seed)(ask) if seed is not None else ask
    try:
        run()
    except Unsatisfiable:
        raise
    except (Exception, BaseExceptionGroup) as failure:
        found.failures.setdefault(operation.label, f"{failure}"[:4000])


def begin(case: Case[Operation], target: Target) -> int:
    """Ask for a stream and read only its head; the status, which must be documented."""
    arguments = case.as_transport_kwargs(base_url=target.url, headers=dict(target.headers))
    with target.session.request(**arguments, stream=True, timeout=SECONDS) as answer:
        documented = case.operation.definition.raw["responses"].get(str(answer.status_code))
        assert documented is not None, f"{answer.status_code} is not documented"
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        assert kind in documented.get("content", {kind: {}}), f"{kind} is not documented for {answer.status_code}"
        return answer.status_code
