"""The command line: `uniapi [serve] [api.yaml]`, `uniapi check` and `uniapi explain`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlencode

from uniapi import __version__, codec
from uniapi.config import source, watch
from uniapi.config.fetch import FetchError, fetch
from uniapi.config.read import Problem, Report, Severity, read, render
from uniapi.config.types import ClientKey, Config, Secret
from uniapi.explain import explain as explained
from uniapi.routing.ask import Ask
from uniapi.stats.settings import database, undecided

_COMMANDS: Final = ("serve", "check", "explain")
_ABOUT: Final = (
    "One OpenAI-format endpoint in front of every LLM provider you use. Configured by api.yaml in "
    "this folder, a path, or CONFIG_URL; without any of them it starts a demo."
)


def main(arguments: Sequence[str]) -> int:
    """Run a command.

    Returns:
        0 when it went well, 1 for a configuration or an address that cannot be used, 2 for a
        command line that cannot.
    """
    words = list(arguments)
    if not words or words[0] not in {*_COMMANDS, "--version", "--help", "-h"}:
        words.insert(0, "serve")
    options = _parser().parse_args(words)
    match options.command:
        case "check":
            return check(options.config, os.environ, strict=options.strict)
        case "explain":
            return explain(options, os.environ)
        case _:
            return serve(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="uniapi", description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"uniapi {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{serve,check,explain}")
    config = "path or URL of the configuration (default: api.yaml here, else CONFIG_URL)"

    serve_ = commands.add_parser("serve", help="run the gateway (the default)")
    serve_.add_argument("config", nargs="?", help=config)
    serve_.add_argument("--host", help="default 0.0.0.0, in demo mode 127.0.0.1 (env HOST)")
    serve_.add_argument("--port", type=_port, help="default 8000 (env PORT)")
    serve_.add_argument("--certfile", help="PEM certificate chain: serve HTTPS")
    serve_.add_argument("--keyfile", help="PEM private key of --certfile")
    serve_.add_argument(
        "--grace",
        type=_seconds,
        default=30.0,
        help="seconds for open streams to finish after SIGTERM (default 30)",
    )
    serve_.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )

    check_ = commands.add_parser("check", help="say everything that is wrong with a configuration")
    check_.add_argument("config", nargs="?", help=config)
    check_.add_argument("--strict", action="store_true", help="warnings are errors")

    explain_ = commands.add_parser(
        "explain", help="say who would be asked for a model, in which order, and why; asks nobody"
    )
    explain_.add_argument("model", help="as a client would name it")
    explain_.add_argument("config", nargs="?", help=config)
    explain_.add_argument(
        "--key", help="whose request: one of api_keys, or its digest (default: the only one)"
    )
    explain_.add_argument("--stream", action="store_true", help="as a stream")
    explain_.add_argument(
        "--server",
        metavar="URL",
        help="ask this running gateway, which knows who rests and what is used; "
        "the admin's key is taken from the configuration",
    )
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if 0 <= seconds < float("inf"):
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What reading the configuration brought.

    Attributes:
        report: the reading; None when there was no text.
        problems: everything to tell the user, the way it came included.
        found: False when there is no configuration anywhere, which means demo mode.
        place: where it comes from; None when that is nowhere.
        text: what came from there, good or not; None when nothing did.
    """

    report: Report | None
    problems: tuple[Problem, ...]
    found: bool = True
    place: source.Source | None = None
    text: str | None = None


def read_config(argument: str | None, env: Mapping[str, str], cwd: Path) -> Outcome:
    """Find, load and read the configuration; blocks while it does."""
    try:
        place = source.find(argument, env, cwd)
        if place is None:
            return Outcome(None, (), found=False)
        loaded = source.load(place, env)
    except source.SourceError as error:
        return Outcome(None, (error.problem,))
    report = read(loaded.text, name=loaded.name, env=env, mode=loaded.mode)
    if report.config is None and (kept := source.last_good(place, env)) is not None:
        # The address answers, but with something broken: yesterday's copy still serves.
        again = read(kept.text, name=kept.name, env=env)
        if again.config is not None:
            problems = (*loaded.warnings, *_demoted(report.problems))
            return Outcome(again, problems, place=place, text=loaded.text)
    problems = (*loaded.warnings, *report.problems)
    if report.config is not None:
        failed = source.remember(place, loaded.text, env)
        problems = (*problems, *([failed] if failed else []))
    return Outcome(report, problems, place=place, text=None if loaded.copy else loaded.text)


def _demoted(problems: Sequence[Problem]) -> list[Problem]:
    """Errors of a text that is not used: warnings."""
    return [
        Problem(
            Severity.WARNING,
            problem.file,
            problem.line,
            f"{problem.what}; the last good copy is used",
            problem.fix,
        )
        for problem in problems
    ]


def check(argument: str | None, env: Mapping[str, str], *, strict: bool) -> int:
    """Print every problem of the configuration; 1 for errors, or for warnings when strict."""
    outcome = read_config(argument, env, Path.cwd())
    if not outcome.found:
        sys.stdout.write(
            "no configuration: there is no api.yaml in this folder and CONFIG_URL is not set\n"
            "    fix: give a path, or start from conf/api.minimal.yaml\n"
        )
        return 1
    problems = [*outcome.problems, *_forgotten(outcome, env)]
    sys.stdout.write(render(problems))
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    warnings = len(problems) - errors
    sys.stdout.write(_summary(outcome, errors, warnings))
    return 1 if errors or (strict and warnings) else 0


def _forgotten(outcome: Outcome, env: Mapping[str, str]) -> Iterator[Problem]:
    """Budgets that begin anew at each start, as far as this environment is the gateway's."""
    config = outcome.report.config if outcome.report else None
    if config is None or outcome.place is None or database(env) is not None:
        return
    if keys := [key.id for key in config.keys if key.preferences.credits is not None]:
        yield Problem(
            Severity.WARNING,
            outcome.place.name,
            1,
            f"credits without statistics: what {', '.join(keys)} spent is forgotten at each start",
            "unset DISABLE_DATABASE",
        )


def _summary(outcome: Outcome, errors: int, warnings: int) -> str:
    if outcome.report is None or outcome.report.config is None:
        return f"{errors} errors, {warnings} warnings\n"
    config = outcome.report.config
    return (
        f"ok: {len(config.providers)} providers, {len(config.keys)} client keys, "
        f"{errors} errors, {warnings} warnings\n"
    )


def explain(options: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Print what would happen to a request; 1 when nobody would be asked."""
    outcome = read_config(options.config, env, Path.cwd())
    config = outcome.report.config if outcome.report else None
    if config is None:
        sys.stderr.write(render(outcome.problems))
        missing = "the configuration has errors" if outcome.found else "there is no configuration"
        sys.stderr.write(f"uniapi: nothing to explain: {missing}\n")
        return 1
    key = _client_key(config, options.key)
    if key is None:
        known = "".join(
            f"    {one.id}{'' if one.role is None else f' ({one.role})'}\n" for one in config.keys
        )
        said = "say whose request with --key" if options.key is None else "no such key"
        sys.stderr.write(f"uniapi: {said}; there are, by their digests:\n{known}")
        return 1
    ask = Ask(options.model, stream=options.stream)
    if options.server is not None:
        return _explain_live(options.server, config, key, ask)
    told = explained(config, key, ask, Random())  # noqa: S311 - a draw of channels
    sys.stdout.write(told.text)
    return 0 if told.served else 1


def _explain_live(server: str, config: Config, key: ClientKey, ask: Ask) -> int:
    """Print what a running gateway says of the request."""
    admin = next((one for one in config.keys if one.admin), None)
    if admin is None:
        sys.stderr.write("uniapi: no key of the configuration has `role: admin`\n")
        return 1
    asked = urlencode({"model": ask.model, "key": key.id, "stream": str(ask.stream).lower()})
    url = f"{server.rstrip('/').removesuffix('/v1')}/v1/explain?{asked}"
    try:
        answer = codec.loads(fetch(url, seconds=10.0, limit=1_000_000, bearer=admin.secret))
    except (FetchError, ValueError) as error:
        sys.stderr.write(f"uniapi: {server} does not explain: {error}\n")
        return 1
    match answer:
        case {"text": str(text), "served": bool(served)}:
            sys.stdout.write(text)
            return 0 if served else 1
        case _:
            sys.stderr.write(f"uniapi: {server} is no gateway of this kind\n")
            return 1


def _client_key(config: Config, shown: str | None) -> ClientKey | None:
    """The key that was named by its text or its digest; unnamed, the only one there is."""
    if shown is None:
        return config.keys[0] if len(config.keys) == 1 else None
    return config.keys_by_sha256.get(Secret(shown).sha256) or config.keys_by_id.get(shown)


def _hold_streams() -> None:
    """Give closed standard streams the null device: else the next socket or file is one of them."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - for good


def _ignored(env: Mapping[str, str]) -> Iterator[Problem]:
    """Variables of a running gateway that say nothing it understands."""
    _, often = watch.interval(env)
    if often is not None:
        yield often
    if (unclear := undecided(env)) is not None:
        yield Problem(Severity.WARNING, "DISABLE_DATABASE", 1, *unclear)


def serve(options: argparse.Namespace) -> int:
    """Run the gateway until it is told to stop; returns the exit status."""
    _hold_streams()
    if (options.certfile is None) != (options.keyfile is None):
        sys.stderr.write("uniapi: --certfile and --keyfile go together\n")
        return 2
    outcome = read_config(options.config, os.environ, Path.cwd())
    config = outcome.report.config if outcome.report else None
    with suppress(OSError):  # a full disk under standard error stops no gateway
        sys.stderr.write(render([*outcome.problems, *_ignored(os.environ)]))
        if outcome.found and config is None:
            sys.stderr.write("uniapi: not started: the configuration has errors\n")
    if outcome.found and config is None:
        return 1
    try:
        port = options.port if options.port is not None else _port(os.environ.get("PORT") or "8000")
    except argparse.ArgumentTypeError as error:
        sys.stderr.write(f"uniapi: PORT: {error}\n")
        return 2
    # Imported here: what does not serve, a broken configuration too, is told without a server's
    # 0.3 s of imports. Nothing that is imported is garbage: not to look for any saves a fifth.
    gc.disable()
    import trio  # noqa: PLC0415 - see above

    from uniapi import log, run  # noqa: PLC0415 - see above

    gc.enable()
    log.configure(level=options.log_level)
    settings = run.Settings(
        host=options.host or os.environ.get("HOST") or None,
        port=port,
        certfile=options.certfile,
        keyfile=options.keyfile,
        grace=options.grace,
        database=database(os.environ, demo=config is None),
    )
    # The demo gives way to an api.yaml as soon as there is one.
    place = outcome.place or source.FileSource(
        Path.cwd() / source.DEFAULT_NAME, source.DEFAULT_NAME
    )
    watched = watch.watch(place, os.environ, have=outcome.text)
    return trio.run(run.gateway, config, settings, watched)
