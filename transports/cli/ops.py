"""`main.py ops`: look after the nodes of this machine through their private sockets."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from actors.hosts import DrainHost, Hosts, ListHosts
from actors.runtime import ActorError, Done, Inspect, Message, Status, Tree, Unreachable
from actors.runtime.forked import connect
from infra.settings import Settings
from transports.cli import webhooks
from transports.cli.options import DONE, FAILED, fail, parser, run, say, settings_of
from transports.node import KEEPER
from transports.operator import Calls, EndCall, Ended, ListCalls

ASK_SECONDS = 2.0
DESK = "operator"


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    made = parser(
        "ops", "Look after running nodes. Every node of this machine is asked; one that does not answer is named."
    )
    made.add_argument("--json", action="store_true", help="print for machines")
    made.add_argument("--node", help="only this node")
    acts = made.add_subparsers(dest="act", metavar="ACT", required=True)
    calls = acts.add_parser("calls", help="live calls: state, host, epoch")
    calls.add_argument("--all", action="store_true", help="ended ones too")
    acts.add_parser("hosts", help="host processes: calls, memory, loop lag")
    acts.add_parser("tree", help="every actor: mailbox, age, restarts")
    end = acts.add_parser("hangup", help="end a call")
    end.add_argument("call", help="the call's id")
    drain = acts.add_parser("drain", help="move a host's calls, or a whole node's, elsewhere; no new ones come")
    drain.add_argument("host", nargs="?", default="", help="one host, such as host-2 (default: the whole node)")
    webhooks.options_of(acts)
    for act in acts.choices.values():  # where people put them; without a default, or it would undo the one before
        act.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print for machines")
        act.add_argument("--node", default=argparse.SUPPRESS, help="only this node")
    for destructive in (end, drain):
        destructive.add_argument("--yes", action="store_true", help="do not ask")
        destructive.add_argument("--dry-run", action="store_true", help="only say what would be done")
    options = made.parse_args(argv)
    return run((webhooks.work if options.act == "webhooks" else work)(settings_of(options), options))


async def work(settings: Settings, options: argparse.Namespace) -> int:
    """Ask every node and show what they say; 1 if one refused, or none answered."""
    sockets = sorted((settings.node.var / "run").glob(f"{options.node or '*'}/ops.sock"))
    if not sockets:
        fail(f"No node runs here ({settings.node.var}/run has no ops.sock). Start one: main.py serve")
    if options.act in {"hangup", "drain"} and not confirmed(options):
        return DONE
    answers = await asyncio.gather(*(ask(path, options) for path in sockets))
    silent = [path.parent.name for path, answer in zip(sockets, answers, strict=True) if isinstance(answer, Exception)]
    said = {
        path.parent.name: answer
        for path, answer in zip(sockets, answers, strict=True)
        if not isinstance(answer, Exception)
    }
    if options.json:
        say(
            msgspec.json.encode(
                {"nodes": {name: plain(told) for name, told in said.items()}, "silent": silent}
            ).decode()
        )
    else:
        for name, answer in said.items():
            show(name, answer)
    for path, failure in zip(sockets, answers, strict=True):
        if isinstance(failure, Exception):
            say(f"node {path.parent.name} did not do it: {failure}", error=True)
    # A killed node leaves its socket behind; it is named, and the others have answered all the same.
    refused = [
        failure for failure in answers if isinstance(failure, ActorError) and not isinstance(failure, Unreachable)
    ]
    return FAILED if refused or not said else DONE


def confirmed(options: argparse.Namespace) -> bool:
    """Whether to go on with something that cannot be undone."""
    what = f"hang up {options.call}" if options.act == "hangup" else f"drain {options.host or 'the whole node'}"
    if options.dry_run:
        say(msgspec.json.encode({"would": what}).decode() if options.json else f"would {what}")
        return False
    if options.yes:
        return True
    if not sys.stdin.isatty():
        fail(f"This would {what}. Say --yes to do it without being asked.")
    return input(f"{what}? [y/N] ").strip().lower() in {"y", "yes"}


async def ask(path: Path, options: argparse.Namespace) -> Message | ActorError:
    """One node's answer, or why there is none."""
    questions: dict[str, tuple[str, Message]] = {
        "calls": (DESK, ListCalls(getattr(options, "all", False))),
        "hosts": (KEEPER, ListHosts()),
        "tree": ("system/node", Inspect(everywhere=True)),
        "hangup": (DESK, EndCall(getattr(options, "call", ""))),
        "drain": (KEEPER, DrainHost(getattr(options, "host", ""))),
    }
    name, message = questions[options.act]
    try:
        async with await connect(path, timeout=ASK_SECONDS) as node:
            return await node.ref(name).ask(message, timeout=ASK_SECONDS) or Done()
    except ActorError as error:
        return error


def plain(answer: Message) -> Any:
    return msgspec.to_builtins(answer)


def show(node: str, answer: Message) -> None:
    """Print one node's answer as a table."""
    match answer:
        case Calls(calls=calls):
            columns = ("id", "direction", "state", "ended_reason", "persona", "host", "epoch", "created_at")
            rows(node, columns, [[str(call.get(c) or "") for c in columns] for call in calls])
        case Hosts(hosts=hosts):
            titles = ("host", "pid", "calls", "draining", "pss_mb", "lag_p99_ms", "age_s")
            told = [{**host, "calls": len(host["calls"])} for host in hosts]
            rows(node, titles, [[cell(host.get(c, "")) for c in titles] for host in told])
        case Tree(statuses=statuses):
            rows(node, ("actor", "kind", "state", "waiting", "handled", "restarts", "age_s"), [*map(leaf, statuses)])
        case Ended() | Done():
            say(f"node {node}: done")


def leaf(status: Status) -> list[str]:
    depth = "  " if status.parent else ""
    name = f"{status.system} {depth}{status.name}"
    figures = (f"{status.waiting}/{status.capacity}", status.handled, status.restarts, round(status.age_s))
    return [name, status.kind, status.state, *map(str, figures)]


def cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def rows(node: str, columns: Sequence[str], table: Sequence[Sequence[str]]) -> None:
    """Print a table under the node's name."""
    say(f"node {node}: {len(table)}")
    widths = [max(map(len, (name, *(row[i] for row in table)))) for i, name in enumerate(columns)]
    for row in (columns, *table) if table else ():
        say("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
