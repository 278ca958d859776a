"""A scenario in a TOML file: groups, phases with ramps, spikes and soaks, victims and thresholds.

Owns: the file's keys, and errors that name the key. May not: play the `Experiment` that it returns.
"""

import math
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from loadgen import flags
from loadgen.clients.client import Client
from loadgen.net.target import PER_ADDRESS, UsageError
from loadgen.report import conditions
from loadgen.run import experiment
from loadgen.run.experiment import BESIDE, Counts, Experiment, Group, Name, Phase, Probes


class _Group(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`[[groups]]`: clients that connect together."""

    name: Name
    clients: int
    mix: str = ""  # honest personas, as in --mix
    kind: str = ""  # or attacks, as in --kind
    rooms: int | None = None
    room: Name | None = None
    poll_wait: float = experiment.POLL_WAIT_SECONDS
    per_address: int = PER_ADDRESS


class _Victims(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`[victims]`: the clients whose operations are judged."""

    kind: str | tuple[str, ...] = "chat"
    number: int = 50
    newcomers: float = experiment.NEWCOMERS_PER_S
    timeout: float = experiment.OPERATION_TIMEOUT_SECONDS
    neighbours: int = 0
    fixed_duration: bool = True


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    phases: list[Phase]
    name: Name = "scenario"
    groups: list[_Group] = []
    victims: _Victims | None = None
    fail_if: list[str] = []
    no_bar: bool = False
    drain: float = experiment.DRAIN_SECONDS
    connect_rate: float = 0.0


class Scenario(NamedTuple):
    experiment: Experiment
    fail_if: tuple[str, ...]
    no_bar: bool
    connect_rate: float


def read(file: str) -> Scenario:
    """Read a scenario; every error is one line that names the file and the key."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--scenario: {file}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return _scenario(msgspec.toml.decode(text, type=_File))
    except msgspec.ValidationError as error:
        raise UsageError(f"--scenario: {file}: {_plain(error)}") from None
    except (ValueError, RecursionError, UsageError) as error:
        raise UsageError(f"--scenario: {file}: {error}") from None


#: msgspec's words for what a file may have wrong, and those of this file; it names the place as `phases[0]`.
_PLAIN: Final = {
    "Object contains unknown field": "there is no key",
    "Object missing required field": "there must be a key",
    " - at `$.": " at `",
}


def _plain(error: msgspec.ValidationError) -> str:
    return reduce(lambda text, words: text.replace(*words), _PLAIN.items(), str(error))


def _scenario(file: _File) -> Scenario:
    _only_once("groups", Counter(group.name for group in file.groups))
    _only_once("phases", Counter(phase.name for phase in file.phases))
    probes, slow = _probes(file.victims) if file.victims else (None, {})
    groups = tuple(map(_group, file.groups))
    phases = tuple(_phase(phase, {group.name for group in groups}) for phase in file.phases)
    kinds = {phase.counts_as for phase in phases}
    if Counts.LOAD not in kinds:
        raise UsageError("phases: none is judged; one must count as 'load'")
    for needed, why in ((Counts.BASELINE, "to compare with"), (Counts.RECOVERY, "to see what is left of the load")):
        if probes is not None and needed not in kinds:
            raise UsageError(f"phases: victims need a phase that counts as {needed.value!r}, {why}")
    if probes is None and any(group.attacks for group in groups):
        raise UsageError("victims: attackers alone show nothing; add [victims]")
    _require_sense(groups, phases)
    flags.require("drain", flags.PAUSE, file.drain)
    flags.require("connect_rate", flags.RATE, file.connect_rate)
    if probes is None and not groups:
        raise UsageError("groups: there are none, and no [victims]: nobody would load the server")
    played = Experiment(
        command=file.name,
        groups=groups,
        phases=phases,
        probes=probes,
        drain_seconds=file.drain,
        longest_cycle=0.0 if file.victims is None or file.victims.fixed_duration else math.inf,
    )
    conditions.parse(file.fail_if, played.known, server_pid=True)  # in the name of this file
    return Scenario(played.beside(slow), tuple(file.fail_if), file.no_bar, file.connect_rate)


def _require_sense(groups: tuple[Group, ...], phases: tuple[Phase, ...]) -> None:
    """Refuse phases that would be judged without the clients that they are about."""
    opened: dict[str, float] = {}
    left: set[str] = set()
    for phase in phases:
        where = f"phases.{phase.name}"
        for name, share in phase.open.items():
            if name in left:
                raise UsageError(f"{where}.open.{name}: the group has left for good before")
            if share < opened.get(name, 0.0):
                raise UsageError(f"{where}.open.{name}: {share:g} is less than the {opened[name]:g} that are open")
            opened[name] = share
        here = [group for group in groups if opened.get(group.name) and group.name not in left]
        if phase.rate and not any(persona.speaks for group in here for persona in group.counts):
            raise UsageError(f"{where}.rate: nobody speaks; open a group with chat in its mix by then")
        left.update(phase.close)
    for group in groups:
        share = opened.get(group.name, 0.0)
        if not share:
            raise UsageError(f"groups.{group.name}: no phase opens it")
        if group.attacks and share < 1:
            why = f"its phases open {share:g} of it, and an attack takes place when all have come"
            raise UsageError(f"groups.{group.name}: {why}; say fewer clients")


def _only_once(what: str, names: Counter[str]) -> None:
    twice = [name for name, number in names.items() if number > 1]
    if twice:
        raise UsageError(f"{what}: {twice[0]!r} is there twice")


def _probes(victims: _Victims) -> tuple[Probes, Mapping[type[Client], int]]:
    flags.require("victims.number", flags.CLIENTS, victims.number)
    flags.require("victims.newcomers", flags.RATE, victims.newcomers)
    flags.require("victims.neighbours", flags.NOT_NEGATIVE, victims.neighbours)
    flags.require("victims.timeout", flags.PATIENCE, victims.timeout)
    kinds = (victims.kind,) if isinstance(victims.kind, str) else victims.kind
    return flags.probes(kinds, victims.number, victims.newcomers, victims.timeout, victims.neighbours)


def _group(group: _Group) -> Group:
    where = f"groups.{group.name}"
    flags.require(f"{where}.clients", flags.CLIENTS, group.clients)
    flags.require(f"{where}.poll_wait", flags.DURATION, group.poll_wait)
    flags.require(f"{where}.per_address", flags.BEHIND_ONE, group.per_address)
    if bool(group.mix) == bool(group.kind):
        raise UsageError(f"{where}: it has either mix, for honest clients, or kind, for attackers")
    if group.name == BESIDE:
        raise UsageError(f"{where}: that name is the honest slow clients'; say victims.neighbours = 5")
    flags.require(f"{where}.rooms", flags.CLIENTS, group.rooms)
    try:
        if group.mix:
            counts = flags.mix(group.mix, group.clients)
        else:
            counts = flags.shares(dict.fromkeys(flags.attacks(group.kind, "--kind"), 1.0), group.clients)
        rooms = flags.rooms(group.rooms, group.room or (None if group.mix else "lobby"), group.clients)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Group(
        name=group.name,
        counts=counts,
        rooms=rooms,
        poll_wait_seconds=group.poll_wait,
        per_address=group.per_address,
    )


def _phase(phase: Phase, groups: set[str]) -> Phase:
    where = f"phases.{phase.name}"
    for name in (*phase.open, *phase.close):
        if name not in groups:
            raise UsageError(f"{where}: there is no group {name!r}; there are {', '.join(sorted(groups)) or 'none'}")
    for name, share in phase.open.items():
        flags.require(f"{where}.open.{name}", flags.PART, share)
    flags.require(f"{where}.rate", flags.RATE, phase.rate)
    flags.require(f"{where}.text_bytes", flags.TEXT, phase.text_bytes)
    if phase.text_bytes and phase.rate is None:
        raise UsageError(f"{where}.text_bytes: a size is set together with a rate; say the rate, too")
    counts_as = phase.counts_as
    if counts_as is Counts.AS_NAMED:
        named = {"baseline": Counts.BASELINE, "recovery": Counts.RECOVERY}.get(phase.name, Counts.LOAD)
        counts_as = named if phase.seconds else Counts.OPENING
    if counts_as is not Counts.OPENING and phase.name in experiment.AROUND:
        raise UsageError(f"{where}: loadgen has a time of that name, which is not judged; choose another")
    allowed = flags.PAUSE if counts_as is Counts.OPENING else flags.DURATION
    flags.require(f"{where}.seconds", allowed, phase.seconds)
    return msgspec.structs.replace(phase, counts_as=counts_as)
