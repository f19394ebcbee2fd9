"""The rules of the house: what may import what, how large things may be, what must not be in a file."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("actors", "bots", "generation", "infra", "scheduler", "transports")
FILE_LINES, FUNCTION_LINES, PARAMETERS = 500, 60, 8
# Exceptions to the budgets, each with its reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
MANY_PARAMETERS: dict[str, str] = {}
# Who hands the environment on to a program it starts, without reading a setting from it.
HANDS_ON = {
    "actors.runtime.forked.launcher": "children run in the node's environment, with fewer threads for the template",
    "transports.simulator.speech": "a program of its own, which starts its speaking half",
}
# Who may import whom, besides itself; `actors.runtime` is below everything.
BELOW: dict[str, frozenset[str]] = {
    "actors.runtime": frozenset(),
    "infra": frozenset({"actors.runtime"}),
    "bots": frozenset({"infra", "actors.runtime"}),
    "generation": frozenset({"infra", "actors.runtime"}),
    "actors": frozenset({"bots", "generation", "infra", "actors.runtime"}),
    "scheduler": frozenset({"actors", "bots", "generation", "infra", "actors.runtime"}),
    "transports": frozenset({"scheduler", "actors", "bots", "generation", "infra", "actors.runtime"}),
    "transports.simulator": frozenset(),
    "main": frozenset({"transports", "transports.simulator"}),
}
# The command line offers the phone network beside the server; no other file of ours may know it.
KNOWS_SIMULATOR = {"transports.cli.simulate"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
HEAVY = ("pipecat", "onnxruntime", "torch", "transformers", "pocketsphinx")
SQL = re.compile(
    r"^\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|create\s+table\s|alter\s+table\s)",
    re.IGNORECASE | re.DOTALL,
)


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")] + [ROOT / "main.py"]
    return {name_of(path): path for path in sorted(paths)}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(name: str, path: Path) -> Iterator[str]:
    """The modules of ours that a module imports, at run time or for its types, at the top or inside functions."""
    known = modules()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base_name = ".".join([*base, *([node.module] if node.module else [])])
            found = [f"{base_name}.{alias.name}" for alias in node.names]
        else:
            continue
        for wanted in found:
            target = wanted if wanted in known else wanted.rpartition(".")[0]
            if target in known and target != name:
                yield target


def layer(name: str) -> str:
    """The layer a module belongs to: the longest name in the table that it begins with."""
    return max((known for known in BELOW if name == known or name.startswith(known + ".")), key=len)


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}.{node.name}", node


def test_imports_run_downwards_only() -> None:
    """COM-71: no upward import, and none between bots, generation and infra but into infra."""
    wrong = [
        f"{name} imports {target}"
        for name, path in modules().items()
        for target in imports(name, path)
        if layer(target) not in BELOW[layer(name)] | {layer(name)}
        and not (name in KNOWS_SIMULATOR and layer(target) == "transports.simulator")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_imports_exists() -> None:
    """COM-71: what is imported when a module is loaded never leads back to it."""
    known = modules()
    graph = {
        name: {
            target
            for node in tree(path).body
            for target in imports_of(name, path, node)
            if target in known and not name.startswith(target + ".")
        }
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in graph[name]:
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def imports_of(name: str, path: Path, node: ast.stmt) -> Iterator[str]:
    """What one top-level statement imports when the module is loaded."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        alone = ast.Module([node], [])
        known = modules()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for found in ast.walk(alone):
            if isinstance(found, ast.Import):
                yield from (alias.name for alias in found.names)
            elif isinstance(found, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - found.level + 1] if found.level else []
                module = ".".join([*base, *([found.module] if found.module else [])])
                for alias in found.names:
                    yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in known else module


def test_only_the_folders_of_the_architecture_hold_source() -> None:
    """COM-71: no other source folder exists."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tops = {path.partition("/")[0] for path in listed.stdout.split()}
    assert tops <= {*FOLDERS, "tests", "main.py"}, tops


def test_the_package_of_the_domain_actors_is_empty() -> None:
    """COM-71: importing the runtime, which lies below everything, loads nothing above it."""
    assert not (ROOT / "actors/__init__.py").read_text().strip()


def test_files_functions_and_constructors_keep_their_budgets() -> None:
    """COM-71, style: file <= 500 lines, function <= 60, constructor <= 8 parameters."""
    wrong = []
    for name, path in modules().items():
        lines = len(path.read_text().splitlines())
        if lines > FILE_LINES and name not in LONG_FILES:
            wrong.append(f"{name} has {lines} lines")
        for function, node in functions(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES and function not in LONG_FUNCTIONS:
                wrong.append(f"{function} has {length} lines")
            count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
            if node.name == "__init__" and count > PARAMETERS and function not in MANY_PARAMETERS:
                wrong.append(f"{function} has {count} parameters")
    assert not wrong, "\n".join(wrong)


def test_every_exception_to_a_budget_is_still_needed() -> None:
    """An exception outlives its reason unless somebody looks."""
    known = modules()
    for name in LONG_FILES:
        assert len(known[name].read_text().splitlines()) > FILE_LINES, name
    lengths = {
        name: (node.end_lineno or 0) - node.lineno + 1 for path in known.values() for name, node in functions(path)
    }
    for name in LONG_FUNCTIONS:
        assert lengths[name] > FUNCTION_LINES, name
    for name in MANY_PARAMETERS:
        assert name in lengths, name


def test_nothing_is_called_utils_helpers_common_or_manager() -> None:
    """Style: a name tells what a file is about."""
    paths = [path for folder in (*FOLDERS, "tests") for path in (ROOT / folder).rglob("*")]
    wrong = [path for path in paths if path.stem.lower() in VAGUE and "__pycache__" not in path.parts]
    assert not wrong, wrong


def test_sql_lives_in_sql_files() -> None:
    """Architecture 1: queries have names and files; a string of Python is no place for them."""
    wrong = [
        f"{name}:{node.lineno}: {node.value.strip()[:60]}"
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value)
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_settings_read_the_environment() -> None:
    """Style: no behaviour hangs on ambient variables outside `infra/settings.py`."""
    wrong = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        if name not in {"infra.settings", *HANDS_ON}
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("module", ["transports.gateway", "actors.hosts", "actors.orders", "transports.switchboard"])
def test_the_gateway_loads_no_machine_learning(module: str) -> None:
    """COM-37, COM-71: a gateway starts fast and stays small; only hosts and workers load models and pipelines."""
    code = f"import json, sys, {module}; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []


@pytest.mark.parametrize(("module", "own"), [("actors.runtime", "actors"), ("transports.simulator.cli", "transports")])
def test_the_lowest_layers_load_nothing_of_ours_but_themselves(module: str, own: str) -> None:
    """COM-71: the runtime knows no call, the phone network no server."""
    code = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    inside = module if module == "actors.runtime" else "transports.simulator"
    ours = [name for name in json.loads(run.stdout) if name.partition(".")[0] in FOLDERS]
    assert [name for name in ours if name != own and name != inside and not name.startswith(inside + ".")] == []
