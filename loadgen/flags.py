"""The values of flags: what each may be, and how those that are more than a number or a word are read.

Owns: the types of flags, each with its range and the name that `--help` gives to its value, and the syntax of `--mix`,
`--kind`, `--victim` and others. Every error names its flag.
"""

import difflib
import math
import re
import shlex
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from cyclopts import Parameter

from loadgen.clients.client import Client, Threat
from loadgen.net import target
from loadgen.net.target import Target, UsageError
from loadgen.personas import registry
from loadgen.protocols import ESTABLISHED, MIXES, served
from loadgen.run.exercise import unmet
from loadgen.run.experiment import Probes

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a flag may have, never nan or infinity; cyclopts calls it as a validator."""

    least: float
    most: float = math.inf
    above: bool = False  # the least itself is not one of them

    def __call__(self, _: object, value: float | None) -> None:
        if value is None:
            return
        if not (value > self.least if self.above else value >= self.least):  # also true of nan
            raise ValueError(f"{value:g} is {'not above' if self.above else 'below'} {self.least:g}")
        if value == math.inf:
            raise ValueError("it must be finite")
        if value > self.most:
            raise ValueError(f"{value:,} is above {self.most:,.9g}")


def is_path(_: object, text: str | None) -> None:
    """Refuse a text that cannot be a request target."""
    if text is not None and (not text.startswith("/") or any(not "!" <= letter <= "~" for letter in text)):
        raise ValueError(f"{text!r} is no path: it begins with / and is visible ASCII")


def require(where: str, allowed: Callable[[object, T], None], value: T) -> None:
    """Refuse what a flag's validator refuses, in a scenario or within another value."""
    try:
        allowed(None, value)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


#: The most clients of one run; the victims' source addresses come after theirs.
CLIENTS: Final = Range(1, 100_000)
NOT_NEGATIVE: Final = Range(0)
#: Events a second: more than a process can begin, and few enough that the intervals between them are not nothing.
RATE: Final = Range(0, 1_000_000)
PART: Final = Range(0, 1)

#: The longest time in a flag; a longer run is most likely a typing error.
MAX_SECONDS: Final = 3600.0
DURATION: Final = Range(0, MAX_SECONDS, above=True)
#: A wait that may be left out.
PAUSE: Final = Range(0, MAX_SECONDS)
PATIENCE: Final = Range(0.1, 60)

#: Clients behind one source address, which has 28,000 ports on a usual Linux.
BEHIND_ONE: Final = Range(1, 20_000)

#: Bytes of a message: more than any chat takes, and a process of a crowd keeps one text.
TEXT: Final = Range(0, 2**20)

Clients = Annotated[int, Parameter(metavar="N", validator=CLIENTS)]
N = Annotated[int, Parameter(metavar="N", validator=NOT_NEGATIVE)]
Processes = Annotated[int, Parameter(metavar="N", validator=Range(1, 64))]
Pid = Annotated[int, Parameter(metavar="PID")]
Seconds = Annotated[float, Parameter(metavar="SECONDS", validator=DURATION)]
Patience = Annotated[float, Parameter(metavar="SECONDS", validator=PATIENCE)]
PerSecond = Annotated[float, Parameter(metavar="N", validator=RATE)]
Share = Annotated[float, Parameter(metavar="SHARE")]
Name = Annotated[str, Parameter(metavar="NAME")]
Names = Annotated[str, Parameter(metavar="NAMES")]
Mix = Annotated[str, Parameter(metavar="NAME=SHARE,...")]
UrlPath = Annotated[str, Parameter(metavar="PATH", validator=is_path)]
File = Annotated[str, Parameter(metavar="FILE")]
Files = Annotated[tuple[str, ...], Parameter(metavar="FILE")]
Folder = Annotated[str, Parameter(metavar="DIR")]

_ROOM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

#: Words that stand for all attacks of one threat.
_ALL_OF: Final = {threat.everybody: threat for threat in Threat}

#: Members of one room, unless --rooms says otherwise: the size of a busy team.
CLIENTS_PER_ROOM: Final = 50

#: RFC 9110 section 5.6.2.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Fields that loadgen writes itself: they say where a request goes and where it ends.
_OURS: Final = frozenset(("host", "content-length", "transfer-encoding", "connection", "upgrade"))

#: Shares that are larger could add up to infinity.
_MOST_SHARE: Final = 1e100


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def chosen(flag: str, text: str, known: Collection[str]) -> Collection[str]:
    """Return the names in a text, or all known ones if it is empty; refuse an unknown name."""
    unknown = [name for name in names(text) if name not in known]
    if unknown:
        raise _unknown(flag, unknown[0], known)
    return names(text) or known


def _unknown(flag: str, name: str, known: Collection[str], more: str = "") -> UsageError:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}{more}?" if near else f"there are {', '.join(known)}{more}"
    return UsageError(f"{flag}: there is no {name!r}; {hint}")


def find_persona(name: str, flag: Literal["--mix", "--kind", "--attacks"], *, honest: bool) -> type[Client]:
    known = {persona.name: persona for persona in registry().values() if persona.honest is honest}
    if name not in known and name in registry():
        raise UsageError(f"{flag}: {name!r} is {'an attack, for --kind' if honest else 'honest, for run --mix'}")
    if name not in known:
        raise _unknown(flag, name, known)
    return known[name]


def command(flag: str, text: str, where: Target) -> list[str]:
    """Read the command that starts the target, which must not run yet."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {text!r} is no command: {str(error).lower()}") from None
    program = shutil.which(words[0]) if words else None
    if program is None:
        raise UsageError(f"{flag}: there is no program {words[0] if words else text!r}")
    if not where.on_loopback:
        raise UsageError(f"{flag}: {where.host} is another machine")
    if target.is_open(where):
        raise UsageError(f"{flag}: something listens at {where.address} port {where.port} already; end it first")
    return [str(Path(program).absolute()), *words[1:]]


def attacks(text: str, flag: Literal["--kind", "--attacks"]) -> list[type[Client]]:
    """Read the names of attacks, without repeats; `all-slow`, `all-greedy` and `all-malformed` name whole groups."""
    found: list[type[Client]] = []
    for name in names(text):
        if name in _ALL_OF:
            found += [each for each in registry().values() if not each.honest and each.threat is _ALL_OF[name]]
        else:
            found.append(find_persona(name, flag, honest=False))
    if not found:
        raise UsageError(f"{flag}: name at least one attack; `loadgen list` prints them")
    return list(dict.fromkeys(found))


def mix(text: str, clients: int) -> dict[type[Client], int]:
    """Read `idle=80,poll=15,chat=5` into numbers of clients."""
    weights: dict[type[Client], float] = {}
    for part in names(text):
        name, _, share = part.partition("=")
        persona = find_persona(name.strip(), "--mix", honest=True)
        try:
            weight = float(share)
        except ValueError:
            weight = 0.0
        if not 0 < weight < _MOST_SHARE:
            raise UsageError(f"--mix: {part!r} is not of the form NAME=SHARE with a share above 0")
        weights[persona] = weights.get(persona, 0.0) + weight
    if not weights:
        raise UsageError("--mix: name at least one persona, for example idle=100; `loadgen list` prints them")
    return shares(weights, clients)


def shares(weights: Mapping[type[Client], float], clients: int) -> dict[type[Client], int]:
    """Divide clients among personas; each gets at least one."""
    if len(weights) > clients:
        raise UsageError(f"--clients: {clients} are too few for {len(weights)} personas")
    return _divide(weights, clients)


def _divide(weights: Mapping[T, float], number: int) -> dict[T, int]:
    """Divide by largest remainder, with at least one each."""
    total = sum(weights.values())
    exact = {name: number * weight / total for name, weight in weights.items()}
    shares = {name: max(int(amount), 1) for name, amount in exact.items()}
    while missing := number - sum(shares.values()):
        step = 1 if missing > 0 else -1
        able = [name for name in shares if shares[name] + step >= 1]
        shares[max(able, key=lambda name: step * (exact[name] - shares[name]))] += step
    return shares


def rooms(number: int | None, name: str | None, clients: int) -> tuple[str, ...]:
    if number is None:
        number = 1 if name else max(1, clients // CLIENTS_PER_ROOM)
    if name and number == 1:
        found: tuple[str, ...] = (name,)
    else:
        found = tuple(f"{name or 'load'}-{index}" for index in range(1, number + 1))
    if not _ROOM.fullmatch(found[-1]):
        raise UsageError(f"room: {found[-1]!r} is no room's name: 1 to 64 of a-z 0-9 . _ -, a letter or digit first")
    return found


def victims(asked: Sequence[str], number: int) -> tuple[dict[str, int], str | None]:
    """Read all of `--victim`: how many of each kind, in equal shares, and the path that `GET /path` names."""
    weights, pages = defaultdict[str, float](float), list[str]()
    for text in asked:
        mix, page = _victims(text)
        if number < len(mix):  # all are of the first kind
            mix = {next(iter(mix)): 1.0}
        for kind, weight in mix.items():
            weights[kind] += weight / sum(mix.values())
        pages += [page] if page else []
    if len(set(pages)) > 1:
        raise UsageError(f"--victim: {' and '.join(map(repr, pages))}: all who fetch a page fetch the same")
    if number < len(weights):
        raise UsageError(f"--victims: {number} are fewer than the kinds of --victim")
    return _divide(weights, number), pages[0] if pages else None


def _victims(text: str) -> tuple[Mapping[str, float], str]:
    """Read one `--victim`: the weights of its kinds, and the path that `GET /path` names."""
    word, _, page = text.strip().partition(" ")
    if word == "GET":
        page = page.strip() or "/"
        require("--victim", is_path, page)
        return {"get": 1.0}, page
    known = [*MIXES, *ESTABLISHED]
    if page or word not in known:
        raise _unknown("--victim", text, known, " or 'GET /path'")
    return MIXES.get(word, {word: 1.0}), ""


def probes(
    asked: Sequence[str], number: int, newcomers: float, timeout: float, neighbours: int
) -> tuple[Probes, dict[type[Client], int]]:
    """Return the victims, and the honest slow clients that can play beside them.

    There are `neighbours` honest slow clients of each kind; of a kind that shares one address, its usual number.
    """
    kinds, page = victims(asked, number)
    needs = served(kinds)
    slow = [persona for persona in registry().values() if persona.slow and not unmet(persona, needs)]
    beside = {each: each.usual_clients if each.one_address else neighbours for each in slow} if neighbours else {}
    return Probes(victims=kinds, newcomers_per_s=newcomers, timeout_seconds=timeout, path=page), beside


def request(text: str) -> tuple[str, str]:
    method, _, target = text.strip().partition(" ")
    target = target.strip()
    if not _TOKEN.fullmatch(method) or not target:
        raise UsageError(f"--request: {text!r} is not of the form 'GET /path'")
    require("--request", is_path, target)
    return method, target


def subprotocol(text: str) -> str:
    if text and not _TOKEN.fullmatch(text):
        raise UsageError(f"--subprotocol: {text!r} is no token")
    return text


def fields(text: str) -> list[str]:
    """Return a field, or with `@FILE` the fields of a file, which keeps secrets off the command line and the report."""
    lines = [text]
    if text.startswith("@"):
        lines = file("--header", text[1:]).decode("utf-8", "replace").splitlines()
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not value.isascii() or not value.strip().isprintable():
            where = text if text.startswith("@") else repr(text)
            raise UsageError(f"--header: {where} is not of the form 'Name: value'")
        if name.lower() in _OURS:
            raise UsageError(f"--header: {name} is written by loadgen itself")
    return [line for line in lines if line]


def file(flag: str, name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{flag}: {name}: {error.strerror}") from None
