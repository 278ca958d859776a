"""The command line of `loadgen fingerprint`.

Owns: what is checked before a connection is opened.
"""

from typing import Final

import trio

from loadgen import figures, flags, preflight
from loadgen.common import COMMON, Common, Url, announce, find, finish
from loadgen.fingerprint.play import Fingerprint
from loadgen.fingerprint.probes import FIGURES, PROBES
from loadgen.fingerprint.site import WAIT, Options, Site
from loadgen.output import require
from loadgen.report import Report
from loadgen.target import UsageError

#: The honest slow probes take 8 s, so a shorter run would fail every server.
LEAST_SECONDS: Final = 10.0

#: More connections from one address would be an attack, not a measurement.
MAX_CONNECTIONS: Final = 5000

#: Connections that all probes hold at once, with room to spare.
_SLOW_CONNECTIONS: Final = 300

OPTIONS: Final = Options()


def fingerprint(url: Url, /, *, options: Options = OPTIONS, common: Common = COMMON) -> int:
    """Find a server's deadlines and size limits from outside, and compare them with good practice.

    Any HTTP or WebSocket server will do. Some thirty probes run side by side: clients that stall, drip, send too much
    or do not read, and honest slow ones. Probes of what the server does not offer are skipped and listed. The default
    bar: no limit is missing, and none hurts honest slow users.
    """
    conditions = figures.parse(common.fail_if, FIGURES, server_pid=False)
    flags.at_least("--within", options.within, LEAST_SECONDS)
    flags.seconds("--within", options.within)
    flags.between("--connections", options.connections, 0, MAX_CONNECTIONS)
    flags.path("--path", options.path)
    flags.path("--read-path", options.read_path or options.path)
    flags.path("--post-path", options.post_path)
    flags.path("--ws-path", options.ws_path)
    if options.poll_path.count(WAIT) != 1:
        raise UsageError(f"--poll-path: {options.poll_path!r} must have {WAIT} in it once: the seconds to be held")
    flags.path("--poll-path", options.poll_path.replace(WAIT, "1"))
    require(common.report)
    target = find(url, common)
    notes = preflight.check(target, max(options.connections, _SLOW_CONNECTIONS), 1)
    progress = announce(target, f"{len(PROBES)} probes for {options.within:g} s", notes)

    async def play() -> Report:
        return await Fingerprint(Site(target, options), progress).play(conditions, no_bar=common.no_bar)

    return finish(trio.run(play), common)
