"""The command line: serve a card processor until Ctrl-C, or until standard input ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .double import Config, serving
from .faults import KINDS, FaultError, parse

_EXAMPLES = """examples:
  stand in for Stripe for a server that is told STRIPE_API_URL=http://127.0.0.1:9100:
    python -m transports.simulator.payments --port 9100 --webhook-url http://127.0.0.1:8080/hooks/stripe
  lose every tenth reply of a capture, the same ones each time:
    python -m transports.simulator.payments --seed 7 --fault '{"kind": "rest_lost_reply", "path": "*/capture",
        "probability": 0.1}'

exit codes: 0 it was told to end; 2 the switches make no sense or the port is taken
"""


def build_parser() -> argparse.ArgumentParser:
    """The switches."""
    parser = argparse.ArgumentParser(
        prog="python -m transports.simulator.payments",
        description="A card processor in a box: Stripe's REST API and signed webhooks, with test cards and faults.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port of the API and the control API (default: a free one)")
    parser.add_argument("--secret-key", default=Config.secret_key, help="API key (default %(default)s)")
    parser.add_argument("--publishable-key", default=Config.publishable_key, help="default %(default)s")
    parser.add_argument("--webhook-url", default="", metavar="URL", help="where events are sent (default: nowhere)")
    parser.add_argument("--webhook-secret", default=Config.webhook_secret, help="signs them (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random fault")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help='a fault such as {"kind": "rest_error", "status": 503, "times": 3}; kinds: ' + ", ".join(KINDS),
    )
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    parser.add_argument("--json", action="store_true", help="say where it is as one line of JSON on standard output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        faults = [json.loads(text) for text in arguments.fault]
        for fault in faults:
            if not isinstance(fault, dict):
                raise ValueError("--fault is a JSON object")
            parse(fault)
        if arguments.webhook_url and urlsplit(arguments.webhook_url).scheme not in ("http", "https"):
            raise ValueError("--webhook-url begins with http:// or https://")
        return asyncio.run(_main(arguments, faults))
    except (FaultError, ValueError, TypeError) as error:
        _tell(f"payments: {error}")
    except OSError as error:
        _tell(f"payments: cannot listen on {arguments.host}:{arguments.port}: {error.strerror}")
    return 2


async def _main(arguments: argparse.Namespace, faults: list[Mapping[str, Any]]) -> int:
    config = Config(
        webhook_url=arguments.webhook_url,
        webhook_secret=arguments.webhook_secret,
        secret_key=arguments.secret_key,
        publishable_key=arguments.publishable_key,
        seed=arguments.seed,
    )
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    async with serving(config, arguments.host, arguments.port) as double:
        double.inflict(*faults)
        if arguments.until_eof:
            loop.add_reader(sys.stdin.fileno(), stopped.set)
        control = f"{double.url}/control"
        if arguments.json:
            told = {
                "url": double.url,
                "control": control,
                "secret_key": config.secret_key,
                "publishable_key": config.publishable_key,
                "webhook_secret": config.webhook_secret,
            }
            print(json.dumps(told), flush=True)  # noqa: T201  # this is a command line
        else:
            _tell(f"payments double at {double.url} (control: {control})")
        await stopped.wait()
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
