"""`simulate`: serve a phone network, or let callers call a bot and tell how it did."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import persona
from .faults import KINDS, Fault, FaultError, parse
from .network import Config, Network, serving
from .parrot import Manners
from .parrot import serving as parrot

_EXAMPLES = """examples:
  serve a network for a server whose Twilio API address can be changed:
    simulate --port 9000 --webhook http://127.0.0.1:8080/twilio/voice
  let ten callers call a bot for a minute and keep the figures:
    simulate --calls 10 --persona talker --webhook http://127.0.0.1:8080/voice --duration 60 --json out.json
  see it work without any bot:
    simulate --calls 3 --parrot --duration 15

exit codes: 0 every call was answered and ended as it should; 1 a call failed or the bot never spoke;
            2 the switches make no sense; 130 Ctrl-C
"""
_RAMP_S = 0.05


def build_parser(parser: argparse.ArgumentParser | None = None) -> argparse.ArgumentParser:
    """The switches, added to `parser` if one is given."""
    parser = parser or argparse.ArgumentParser(prog="simulate")
    parser.description = (
        "A phone network in a box: Twilio's REST calls resource, webhooks, TwiML and Media Streams, "
        "with callers that speak. Without --calls it serves until Ctrl-C; with --calls it also calls a bot."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EXAMPLES
    serve_ = parser.add_argument_group("the network")
    serve_.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    serve_.add_argument("--port", type=int, default=0, help="port of the REST and control API (default: a free one)")
    serve_.add_argument("--account-sid", default=Config.account_sid, help="default %(default)s")
    serve_.add_argument("--auth-token", default=Config.auth_token, help="signs webhooks (default %(default)s)")
    serve_.add_argument("--webhook", default="", metavar="URL", help="voice webhook of the numbers callers call")
    serve_.add_argument("--status-webhook", default="", metavar="URL", help="told when such a call has ended")
    serve_.add_argument("--answerer", default="friend", metavar="PERSONA", help="who picks up where the bot calls")
    serve_.add_argument(
        "--recordings", type=Path, metavar="DIR", help="two-channel WAV per call: caller left, bot right"
    )
    serve_.add_argument("--seed", type=int, default=0, help="seed of every random fault")
    serve_.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        help='a fault such as {"kind": "stream_drop", "ms": 4000, "mode": "rst", "probability": 0.2}; kinds: '
        + ", ".join(KINDS),
    )
    serve_.add_argument("--until-eof", action="store_true", help="end when standard input does")
    calls = parser.add_argument_group("calls to a bot")
    calls.add_argument("--calls", type=int, default=0, metavar="N", help="how many at the same time")
    calls.add_argument("--persona", default="talker", help=f"{', '.join(persona.names())}, or a .toml file")
    calls.add_argument("--to", default="+15550100000", metavar="NUMBER", help="number called (default %(default)s)")
    calls.add_argument("--from", dest="from_", default="+15550199000", metavar="NUMBER", help="caller's number")
    calls.add_argument("--duration", type=float, default=60.0, metavar="S", help="hang up after (default %(default)s)")
    calls.add_argument("--parrot", action="store_true", help="call a built-in bot instead of --webhook")
    calls.add_argument("--json", type=Path, metavar="FILE", help="write every call's record and the figures together")
    return parser


async def serve(config: Config, host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve a network until cancelled; its address is printed."""
    async with serving(config, host, port) as network:
        _tell(f"phone network at {network.url} (control: {network.url}/simulator)")
        await asyncio.get_running_loop().create_future()


async def run(network: Network, arguments: argparse.Namespace, webhook: str) -> dict[str, Any]:
    """Let the callers call, wait for the calls to end, and say what they were like."""
    caller = persona.load(arguments.persona)
    calls = []
    for number in range(arguments.calls):
        calls.append(network.dial(arguments.to, f"{arguments.from_[:-4]}{number:04d}", caller, webhook))
        await asyncio.sleep(_RAMP_S)
    tasks = [call.task for call in calls if call.task]
    loop = asyncio.get_running_loop()
    end = loop.time() + arguments.duration
    while any(not task.done() for task in tasks) and loop.time() < end:
        await asyncio.wait(tasks, timeout=min(5.0, max(0.0, end - loop.time())))
        figures = network.measures()
        turn = figures["voice_to_voice_ms"]
        _tell(
            f"{figures['live']} live, {figures['calls'] - figures['live']} ended, {figures['answered_turns']} turns, "
            f"voice to voice p50 {turn['p50']} ms, p95 {turn['p95']} ms, underruns {figures['underrun_share']:.2%}"
        )
    await network.hang_up_all()
    return {"together": network.measures(), "calls": [call.record() for call in calls]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = build_parser()
    return execute(parser.parse_args(argv))


def execute(arguments: argparse.Namespace) -> int:
    """Run the command with switches already read; the exit code."""
    try:
        faults = [parse(json.loads(text)) for text in arguments.fault]
        persona.load(arguments.persona)
        persona.load(arguments.answerer)
        if arguments.calls and not (arguments.webhook or arguments.parrot):
            raise ValueError("--calls needs --webhook URL (or --parrot)")
        return _run(arguments, faults)
    except (FaultError, persona.PersonaError, ValueError) as error:
        _tell(f"simulate: {error}")
        return 2
    except OSError as error:
        _tell(f"simulate: cannot listen on {arguments.host}:{arguments.port}: {error.strerror}")
        return 2


def _run(arguments: argparse.Namespace, faults: list[Fault]) -> int:
    try:
        import uvloop  # half the work per frame, where it is installed

        return int(uvloop.run(_main(arguments, faults)))
    except ImportError:
        return asyncio.run(_main(arguments, faults))


async def _main(arguments: argparse.Namespace, faults: list[Fault]) -> int:
    config = Config(
        account_sid=arguments.account_sid,
        auth_token=arguments.auth_token,
        voice_url=arguments.webhook,
        status_url=arguments.status_webhook,
        answerer=arguments.answerer,
        recordings=arguments.recordings,
        seed=arguments.seed,
    )
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    if arguments.until_eof:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(serving(config, arguments.host, arguments.port))
        webhook = arguments.webhook
        if arguments.parrot:
            webhook = (await stack.enter_async_context(parrot(Manners(answers=0)))).url + "/voice"
        for fault in faults:
            network.inflict(fault)
        _tell(f"phone network at {network.url} (control: {network.url}/simulator)")
        if not arguments.calls:
            await stopped.wait()
            return 0
        calling = asyncio.create_task(run(network, arguments, webhook))
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((calling, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not calling.done():
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            return 130
        return _conclude(calling.result(), arguments.json)


def _conclude(outcome: dict[str, Any], file: Path | None) -> int:
    if file:
        file.write_text(json.dumps(outcome, indent=1))
        _tell(f"wrote {file}")
    bad = [call for call in outcome["calls"] if call["error"] or call["status"] != "completed"]
    mute = [call for call in outcome["calls"] if call["answer_to_first_sound_ms"] is None]
    for call in bad:
        reason = (call["error"] or {}).get("message", "")
        _tell(f"{call['sid']}: {call['status']} {reason}")
    if mute and not bad:
        _tell(f"the bot was never heard in {len(mute)} of {len(outcome['calls'])} calls")
    return 1 if bad or mute else 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  # this is a command line
