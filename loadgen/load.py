"""The commands of one experiment without an attack, `run` and `play`, and the list of personas.

Owns: their flags.
"""

from dataclasses import replace
from typing import Final

import trio

from loadgen import flags, scenariofile
from loadgen.clients.client import Threat
from loadgen.common import COMMON, LOADING, Common, ConnectRate, Loading, Url, finish, make_plan
from loadgen.flags import Clients, File, Mix, PerSecond, Seconds
from loadgen.net.target import UsageError
from loadgen.personas import registry, summary
from loadgen.run import experiment
from loadgen.run.experiment import Experiment
from loadgen.run.player import Player
from loadgen.run.session import Plan

DEFAULT_RATE: Final = 10.0

#: A chat, as most are.
CHAT_LOAD: Final = "idle=80,poll=15,chat=5"


def run(
    url: Url,
    /,
    *,
    clients: Clients = 1000,
    mix: Mix | None = None,
    rate: PerSecond | None = None,
    duration: Seconds = 30.0,
    rooms: Clients | None = None,
    connect_rate: ConnectRate = 0.0,
    loading: Loading = LOADING,
    common: Common = COMMON,
) -> int:
    """Play honest load: connect a crowd, let it chat on a schedule, report latencies and what the crowd costs.

    Latencies count from the moment a message was due, so a target that stalls cannot hide it. The default bar:
    no client refused, failed or ended, every message acknowledged and back at its sender.

    Args:
        clients: Virtual clients in all.
        mix: Shares of the personas, see `loadgen list`. Default idle=80,poll=15,chat=5; with --request request=100.
        rate: Messages or requests a second, open-loop. Default 10 if the mix has speakers.
        duration: Seconds of steady load, after all clients are connected.
        rooms: Spread the clients over this many rooms. Default one for 50 clients.
    """
    loading.load_personas()
    counts = flags.mix(mix or ("request=100" if loading.request else CHAT_LOAD), clients)
    speakers = any(persona.speaks for persona in counts)
    if rate and not speakers:
        raise UsageError("--rate: nobody speaks; add chat=… to --mix, or request=… or echo=…")
    what = experiment.honest_load(
        counts,
        rooms=flags.rooms(rooms, None, clients),
        rate=(DEFAULT_RATE if rate is None else rate) if speakers else 0.0,
        seconds=duration,
    )
    plan = make_plan(url, common, loading, what, connect_rate=connect_rate)
    return _play(plan, what, common)


def play(url: Url, /, *, scenario: File, loading: Loading = LOADING, common: Common = COMMON) -> int:
    """Play a scenario from a file: groups, phases with ramps, spikes and soaks, victims, thresholds.

    `run` and `attack` are presets of what such a file can say. --fail-if adds to what the file asks for.

    Args:
        scenario: The TOML file, see docs/loadgen.md.
    """
    loading.load_personas()
    loaded = scenariofile.read(scenario)
    common = replace(common, fail_if=(*loaded.fail_if, *common.fail_if), no_bar=loaded.no_bar or common.no_bar)
    plan = make_plan(url, common, loading, loaded.experiment, connect_rate=loaded.connect_rate, fewer="--scenario")
    return _play(plan, loaded.experiment, common)


def _play(plan: Plan, what: Experiment, common: Common) -> int:
    speakers = any(persona.speaks for group in what.load for persona in group.counts)
    unsaid = ["not exercised: messages and requests, none were sent (no rate)"] if speakers and not what.speaks else []
    return finish(trio.run(Player(plan, what, left_out=unsaid).reported), common)


def list_() -> int:
    """List the personas and the attacks, each with the protocol that it needs and what it does."""
    known = registry().values()
    width = max(len(persona.name) for persona in known)
    groups = (
        ("personas, for run --mix", [each for each in known if each.honest and not each.slow]),
        ("honest slow clients, beside every attack and for run --mix", [each for each in known if each.slow]),
        *(
            (
                f"attacks, for --kind: {threat.value}, together {threat.everybody}",
                [each for each in known if not each.honest and each.threat is threat],
            )
            for threat in Threat
        ),
    )
    for title, personas in groups:
        print(f"{title}:")  # noqa: T201
        for persona in personas:
            print(f"  {persona.name:<{width}}  {persona.needs.value:<9}  {summary(persona)}")  # noqa: T201
    return 0
