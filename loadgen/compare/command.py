"""The command line of `loadgen compare`.

Owns: its flags and what is checked before anything is installed or started.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import trio
from cyclopts import Parameter
from rich.console import Console

from loadgen import flags, markdown, preflight, target
from loadgen.common import COMMON, LOADING, Common, Loading, arguments, find, finish, make_seed
from loadgen.compare.catalogue import OURS, PEERS, Can, Peer
from loadgen.compare.comparison import Comparison
from loadgen.compare.kits import Kit
from loadgen.compare.measure import ENDPOINT, SETTLE_SECONDS
from loadgen.compare.process import HOST
from loadgen.compare.results import LEAST_ROUNDS
from loadgen.compare.scenario import Scenario, Sizes
from loadgen.compare.scenarios import load, scenarios
from loadgen.flags import CLIENTS, File, Folder, Mix, N, Names, PerSecond, Range, Seconds, Share
from loadgen.output import require
from loadgen.progress import Progress
from loadgen.session import Plan
from loadgen.target import UsageError

#: Share of the full sizes: all scenarios against eleven servers take a quarter of an hour.
DEFAULT_SCALE: Final = 0.2

#: The default attacks: one on the server's reading, one on its writing.
DEFAULT_ATTACKS: Final = "slow-head,slow-read-ws"

DEFAULT_PEERS_DIR: Final = "~/.cache/chatserver-peers"

_HERE: Final = target.find(f"http://{HOST}")


def compare(
    *urls: Annotated[str, Parameter(help="Servers that run already, two or more, instead of the named ones.")],
    peers: Annotated[
        Names, Parameter(help=f"Only these servers, comma-separated, and {OURS}, which the ratios refer to.")
    ] = "",
    only: Annotated[Names, Parameter(help="Only these scenarios: idle, poll, fanout, beside, attack.")] = "",
    attacks: Annotated[
        Names, Parameter(help="The attacks to play, see `loadgen list`; all-slow stands for all slow or silent ones.")
    ] = DEFAULT_ATTACKS,
    scale: Annotated[
        Share,
        Parameter(
            help="Share of the full sizes: 10,000 idle (never below 6,000), 15,000 beside a throughput, 8,000"
            " attackers, a room of 1,000.",
            validator=Range(0.001, 10),
        ),
    ] = DEFAULT_SCALE,
    clients: Annotated[
        N | None,
        Parameter(help="The size of every crowd, instead of --scale.", validator=Range(2, CLIENTS.most)),
    ] = None,
    repeats: Annotated[
        N, Parameter(help=f"Rounds; ratios need {LEAST_ROUNDS} or more.", validator=Range(1, 100))
    ] = LEAST_ROUNDS,
    idle_seconds: Annotated[
        Seconds,
        Parameter(help="Seconds of the idle window, and between pings: each connection is pinged once in it."),
    ] = Sizes.idle_seconds,
    attack_seconds: Annotated[Seconds, Parameter(help="Seconds of each attack.")] = Sizes.attack_seconds,
    peers_dir: Annotated[Folder, Parameter(help="Where the peers' own environments are.")] = DEFAULT_PEERS_DIR,
    markdown_file: Annotated[
        File | None, Parameter(name="--markdown", help="Also write the tables there, as Markdown.")
    ] = None,
    mix: Annotated[Mix | None, Parameter(help="Of URLs: what is played; by default request=100.")] = None,
    rate: Annotated[PerSecond, Parameter(help="Of URLs: messages or requests a second.", validator=Range(0.1))] = 100.0,
    duration: Annotated[Seconds, Parameter(help="Of URLs: seconds of each turn.")] = 5.0,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Measure this server beside others, or servers that run already: the same load, in turns, with ratios.

    The others are small servers that come with loadgen. Each is installed at its first use, in an environment of its
    own; one that cannot be installed is skipped with a line that says why. Nothing is installed into the system.
    """
    if common.fail_if:
        raise UsageError("--fail-if: compare judges nobody; it prints what it found")
    require(common.report)
    markdown.require(markdown_file)
    sizes = Sizes(idle_seconds=idle_seconds, attack_seconds=attack_seconds).scaled(scale, clients)
    if urls:
        chosen = _running(urls, common)
        counts = {each.name: number for each, number in flags.mix(mix or "request=100", clients or 20).items()}
        played = [load(counts, rate=rate, seconds=duration)]
    else:
        chosen, played = _peers(peers), _scenarios(only, attacks)
        # refuse before anything is started if this machine cannot hold it; each server is one process
        preflight.check(_HERE, max(sizes.crowd, sizes.beside + sizes.publishers, sizes.attackers + 2 * sizes.victims))
    progress = Progress()
    compared = Comparison(
        peers=chosen,
        scenarios=played,
        sizes=sizes,
        repeats=repeats,
        peers_dir=Path(peers_dir).expanduser(),
        measured=Plan(
            target=_HERE,
            connect_rate=0.0,
            seed=make_seed(common),
            server=None,
            conditions=(),
            processes=loading.processes,
            arguments=arguments(),
            # the phases of sixty measurements are shown live, but not logged
            progress=progress if sys.stderr.isatty() else Progress(Console(stderr=True, quiet=True)),
            endpoint=loading.endpoint() if urls else ENDPOINT,
            settle_seconds=SETTLE_SECONDS,
        ),
        say=progress.say,
        base=chosen[0].name,
        allow_target=common.allow_target,
    )
    summary = (
        f"{len(chosen)} servers, {len(played)} scenarios, {repeats} rounds: about {compared.seconds / 60:.0f} min,"
        f" seed {compared.measured.seed}; Ctrl-C ends it with what there is"
    )
    progress.banner([compared.measured.arguments, summary])
    report = trio.run(compared.play)
    if markdown_file is not None:
        markdown.write(markdown_file, report.tables)
    return finish(report, common)


def _running(urls: Sequence[str], common: Common) -> list[Peer]:
    """Return servers that run already; the ratios refer to the first."""
    if len(set(urls)) < max(len(urls), 2):
        raise UsageError("URL: name two servers or more, each once")
    for url in urls:
        find(url, common)
    return [Peer(name=url, title="runs already", can=Can(0), kit=Kit(), url=url) for url in urls]


def _peers(text: str) -> list[Peer]:
    """Return the named servers, or all; always with ours, because the ratios refer to it."""
    named = flags.chosen("--peers", text, PEERS)
    return [peer for name, peer in PEERS.items() if name in named or name == OURS]


def _scenarios(only: str, attacks: str) -> list[Scenario]:
    everything = scenarios(flags.attacks(attacks, "--attacks"))
    named = flags.chosen("--only", only, dict.fromkeys(scenario.group for scenario in everything))
    return [scenario for scenario in everything if scenario.group in named]
