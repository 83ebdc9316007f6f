"""`serve`: the daemon, and every setting that it has."""

# ruff: noqa: PLC0415 - imports where they are needed, as the package says

from typing import Any

import click

from qmail_exporter import config, logfmt
from qmail_exporter.commands import options
from qmail_exporter.flags.option import flag, together
from qmail_exporter.flags.page import Command
from qmail_exporter.flags.value import DIRECTORY, DURATION, FILE, LOG, Value


def _command_words(text: str) -> tuple[str, ...]:
    from qmail_exporter.hook.runs import parse_command

    return parse_command(text)


_QUEUE_AND_LOG = together(
    options.with_queues,
    options.with_logs,
    flag(
        "--queue.rescan-interval",
        "rescan_interval",
        type=DURATION,
        metavar="DURATION",
        default="1h",
        help="How often to read the whole queue again, as a check; 0 is never.",
    ),
    flag(
        "--domains.max",
        "domains_max",
        type=click.IntRange(min=0),
        metavar="N",
        default=100,
        help="Remote domains of a queue that have series of their own; the rest are counted as (other).",
    ),
)
_HTTP = together(
    flag(
        "--web.listen-address",
        "listen",
        type=options.ADDRESS,
        multiple=True,
        metavar="[HOST]:PORT",
        default=[":10225"],
        help="Where to answer HTTP; may be repeated. Without HOST it is all addresses; IPv6 stands in brackets.",
    ),
    flag(
        "--web.systemd-socket",
        "systemd_socket",
        is_flag=True,
        help="Take the listening sockets from systemd instead.",
    ),
    flag(
        "--web.telemetry-path",
        "telemetry_path",
        type=Value(config.parse_url_path),
        metavar="PATH",
        default="/metrics",
        help="Where the metrics are.",
    ),
    flag(
        "--web.max-requests",
        "max_requests",
        type=click.IntRange(min=0),
        metavar="N",
        default=40,
        help="Scrapes worked on at once; further ones get status 503. 0 is no limit.",
    ),
    flag(
        "--web.config.file",
        "web_config",
        type=FILE,
        metavar="PATH",
        default=None,
        help="TLS, client certificates, passwords and headers, in exporter-toolkit's format.",
    ),
    flag(
        "--web.scrape-budget",
        "scrape_budget",
        type=DURATION,
        metavar="DURATION",
        default="500ms",
        help="The longest that a scrape looks at changed messages before it answers; what is left is a metric.",
    ),
)
_DOUBLE_BOUNCES = flag(
    "--double-bounces.log",
    "double_bounces",
    type=LOG,
    metavar="[NAME=]PATH",
    help="The log that record-double-bounce writes, counted for the queue NAME if there are several.",
)
_HOOK = together(
    flag(
        "--hook.tcpok",
        "hook_tcpok",
        is_flag=True,
        help="Empty tcpto when an outage of the network is over.",
    ),
    flag(
        "--hook.redeliver",
        "hook_redeliver",
        is_flag=True,
        help="Then have qmail-send try every message at once (SIGALRM).",
    ),
    flag(
        "--hook.command",
        "hook_command",
        type=Value(_command_words),
        metavar="COMMAND",
        help="A program to run then, with its arguments; no shell is involved.",
    ),
    flag(
        "--hook.cooldown",
        "hook_cooldown",
        type=DURATION,
        metavar="DURATION",
        default="10m",
        help="The least time between two runs.",
    ),
    flag(
        "--hook.probe",
        "hook_probe",
        type=bool,
        metavar="BOOL",
        default=True,
        help="Probe hosts that are in tcpto while an outage lasts, if there is something to do at its end.",
    ),
    flag("--hook.dry-run", "hook_dry_run", is_flag=True, help="Only log and count what would be done."),
    flag(
        "--hook.timeout",
        "hook_timeout",
        type=DURATION,
        metavar="DURATION",
        default="30s",
        help="The longest that one action may take.",
    ),
    flag(
        "--hook.sockets",
        "hook_sockets",
        type=DIRECTORY,
        metavar="DIR",
        default="/run/qmail-exporter",
        help="Where the socket units listen that do what the exporter's user may not.",
    ),
)
_LOGGING = together(
    flag(
        "--log.level",
        "log_level",
        type=options.LOG_LEVEL,
        default="info",
        help="The least important records to log, on stderr.",
    ),
    flag(
        "--log.format",
        "log_format",
        type=click.Choice(["logfmt", "json"]),
        default="logfmt",
        help="The form of the records.",
    ),
)


@click.command(
    cls=Command,
    short_help="Watch a qmail and answer scrapes.",
    examples=[
        ("All that is found in the usual places", "qmail-exporter serve"),
        ("With the settings of this host", "qmail-exporter serve --config.file=/etc/qmail-exporter.yml"),
        (
            "Two queues, and how to call them",
            "qmail-exporter serve --qmail.queue=in=/q/in --qmail.queue=out=/q/out",
        ),
        ("An end to the after-effects of an outage", "qmail-exporter serve --hook.tcpok --hook.redeliver"),
    ],
)
@together(_QUEUE_AND_LOG, _HTTP, _DOUBLE_BOUNCES, _HOOK, _LOGGING)
def serve(**settings: Any) -> int:
    """Watch a qmail and answer scrapes until SIGTERM or SIGINT."""
    configured = configure(**settings)

    import asyncio

    from qmail_exporter import daemon

    logfmt.configure(configured.log_level, configured.log_format)
    return asyncio.run(daemon.run(configured))


def configure(
    *,
    queues: options.NamedPaths,
    logs: tuple[config.LogSpec, ...],
    listen: tuple[str, ...],
    systemd_socket: bool,
    **settings: Any,
) -> config.Config:
    """Return what the flags say together.

    Raises:
        click.UsageError: they do not go together.
    """
    try:
        named = config.name_queues(queues)
        config.check_logs([*logs, *filter(None, [settings["double_bounces"]])], named)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    hook = {
        name.removeprefix("hook_"): settings.pop(name) for name in list(settings) if name.startswith("hook_")
    }
    hook |= {"command": hook["command"] or (), "sockets": str(hook["sockets"])}
    return config.Config(
        queues=named,
        logs=logs,
        listen=() if systemd_socket else listen,
        systemd_socket=systemd_socket,
        hook=config.HookConfig(**hook),
        **settings,
    )
