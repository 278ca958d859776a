"""The command line of `loadgen fingerprint`.

Owns: its flags, and what is checked before a connection is opened.
"""

from typing import Annotated, Final

import trio
from cyclopts import Parameter

from loadgen import figures, flags, preflight
from loadgen.common import COMMON, Common, Url, arguments, find, finish, whose
from loadgen.fingerprint.play import play
from loadgen.fingerprint.practice import FIGURES
from loadgen.fingerprint.probes import ALONGSIDE
from loadgen.fingerprint.site import (
    CONNECTIONS,
    PATH,
    POLL_PATH,
    POST_PATH,
    WAIT,
    WEBSOCKET_PATH,
    WITHIN_SECONDS,
    Options,
)
from loadgen.progress import Progress
from loadgen.target import UsageError

#: The honest slow take 8 s; less would fail them, not the server.
LEAST_SECONDS: Final = 10.0

#: More from one address is no gentle question any more.
MAX_CONNECTIONS: Final = 5000


def fingerprint(
    url: Url,
    /,
    *,
    within: Annotated[
        float, Parameter(help="Patience of each probe in seconds: a deadline beyond it is not seen.")
    ] = WITHIN_SECONDS,
    path: Annotated[str, Parameter(help="A page for plain requests.")] = PATH,
    read_path: Annotated[
        str | None, Parameter(help="What the slow readers ask for; by default --path, many times over.")
    ] = None,
    post_path: Annotated[str, Parameter(help="Where the server takes a body; if it is not there, --path.")] = POST_PATH,
    poll_path: Annotated[
        str, Parameter(help=f"Where a request is held for {WAIT} seconds if there is no news.")
    ] = POLL_PATH,
    ws_path: Annotated[str, Parameter(help="Where the server speaks WebSocket.")] = WEBSOCKET_PATH,
    connections: Annotated[
        int, Parameter(help="Connections to open from one address, to find its cap; 0 leaves that alone.")
    ] = CONNECTIONS,
    common: Common = COMMON,
) -> int:
    """Find a server's deadlines and size limits from outside, and compare them with good practice.

    Any HTTP or WebSocket server will do. Some thirty probes run side by side: clients that stall, drip, send too much
    or do not read, and honest slow ones. What a server does not serve is left out, and said. The default bar: no limit
    is missing, and none hurts honest slow users.
    """
    conditions = figures.parse(common.fail_if, FIGURES, server_pid=False)
    flags.at_least("--within", within, LEAST_SECONDS)
    flags.seconds("--within", within)
    flags.between("--connections", connections, 0, MAX_CONNECTIONS)
    flags.path("--path", path)
    flags.path("--read-path", read_path or path)
    flags.path("--post-path", post_path)
    flags.path("--ws-path", ws_path)
    _poll_path(poll_path)
    target = find(url, common)
    notes = preflight.check(target, connections + 2 * len(ALONGSIDE), 1)
    progress = Progress()
    progress.banner(
        [
            arguments(),
            f"target {target.url} ({target.address} port {target.port}), {whose(target)}",
            f"{len(ALONGSIDE)} probes for {within:g} s; Ctrl-C ends it with what there is",
            *notes,
        ]
    )
    options = Options(
        within=within,
        path=path,
        read_path=read_path,
        post_path=post_path,
        poll_path=poll_path,
        websocket_path=ws_path,
        connections=connections,
        arguments=arguments(),
    )
    return finish(trio.run(play, target, options, progress, conditions), common)


def _poll_path(text: str) -> None:
    if text.count(WAIT) != 1:
        raise UsageError(f"--poll-path: {text!r} must have {WAIT} in it once: the seconds to be held")
    flags.path("--poll-path", text.replace(WAIT, "1"))
