"""The command line of `loadgen conform`.

Owns: its flags, and what is checked before a connection is opened.
"""

from typing import Annotated
from urllib.parse import urlsplit

import trio
from cyclopts import Parameter

from loadgen import figures, flags
from loadgen.common import COMMON, Common, announce, arguments, find, finish
from loadgen.conform.catalogue import select
from loadgen.conform.report import FIGURES, Options
from loadgen.conform.suite import SIDE_BY_SIDE, play
from loadgen.flags import Range, Seconds
from loadgen.output import require
from loadgen.preflight import InvalidRunError
from loadgen.target import TargetDownError, UsageError


def conform(
    url: Annotated[
        str | None,
        Parameter(
            help="A WebSocket that echoes, for example ws://127.0.0.1:8000/echo; loopback only, see --allow-target."
        ),
    ] = None,
    /,
    *,
    case: Annotated[
        tuple[str, ...],
        Parameter(
            metavar="CASE", help="Only the cases with these numbers, for example '5.*'; repeatable, or with commas."
        ),
    ] = (),
    timeout: Annotated[
        Seconds,
        Parameter(help="Seconds for a case's answers; a long case has more, by its bytes.", validator=Range(0.1, 600)),
    ] = 10.0,
    list_: Annotated[bool, Parameter(name="--list", help="Print the cases and end.")] = False,
    common: Common = COMMON,
) -> int:
    """Play RFC 6455 case by case against a WebSocket that echoes, and report what the server does wrong.

    The cases have the numbers of the Autobahn test suite, if that has the same case. A case is ok, non-strict (the RFC
    leaves it to the server, and other servers do better), wrong, or not exercised: long cases may exceed a limit of the
    server. chatserver takes all cases with up to 4,096 fragments if it runs with --max-message-bytes 33554432
    --all-unfinished-bytes 268435456 --max-fragments 4096 --message-rate 0. The default bar: nothing is wrong. Exit
    code 3 means that nothing was exercised: no answer, or no echo.
    """
    cases = select(case)
    if list_:
        for each in cases:
            print(f"{each.id:<8}{each.section:<15}{each.title}")  # noqa: T201
        return 0
    if url is None:
        raise UsageError("URL: name a WebSocket that echoes, for example ws://127.0.0.1:8000/echo")
    conditions = figures.parse(common.fail_if, FIGURES, server_pid=False)
    require(common.report)
    parts = urlsplit(url if "//" in url else f"ws://{url}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    flags.path("URL", path)
    try:
        target = find(parts._replace(path="", query="", fragment="").geturl(), common)
    except TargetDownError as error:
        raise InvalidRunError(str(error)) from None
    progress = announce(target, f"{len(cases)} cases, {SIDE_BY_SIDE} at a time", path=path)
    options = Options(
        target=target,
        path=path,
        timeout=timeout,
        arguments=arguments(),
        conditions=conditions,
        no_bar=common.no_bar,
    )
    return finish(trio.run(play, options, cases, progress), common)
