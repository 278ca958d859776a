"""The conductor's end of its players: child processes that are told what to play.

Owns: starting and ending them, the pipes, and merging what several tell. May not: know what a scenario is.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec
import trio

from loadgen.latency import Latency
from loadgen.orders import (
    Account,
    AnyOrder,
    AnyWord,
    Audit,
    CastCrowd,
    Close,
    Felt,
    Group,
    Lifetimes,
    News,
    Open,
    Role,
    Speak,
    Spoken,
)
from loadgen.player import lines
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.target import PER_SOURCE

#: How long a player may take to start, to answer, or to end. Generous: a machine under attack is slow.
ANSWER_SECONDS: Final = 60.0
LEAVE_SECONDS: Final = 10.0

#: The persona that the schedule calls upon.
SPEAKER: Final = "chat"

_decoder: Final = msgspec.json.Decoder(AnyWord)


class Player:
    """One child process."""

    def __init__(self, process: trio.Process) -> None:
        self.watched = Process(process.pid)
        self.news: News | None = None
        self.latency = Latency()  # operations that ended since `take`
        self.failed = 0
        self.ended = False
        self._process = process
        self._sent = 0
        self._told = trio.Event()  # set, and made anew, at each word
        self._accounts: deque[Account] = deque()

    async def listen(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take in what it says, until it ends."""
        assert self._process.stdout is not None
        async for line in lines(self._process.stdout):
            word = _decoder.decode(line)
            if isinstance(word, News):
                if self.news is None:
                    task_status.started()
                self.news = word
                if word.recent.latency is not None:
                    self.latency.add(word.recent.latency)
                self.failed += word.recent.failed
            else:
                self._accounts.append(word)
            self._wake()
        self.ended = True
        self._wake()
        if self.news is None:
            raise InvalidRunError("a process of the generator's own could not start; what it said is above")

    def _wake(self) -> None:
        self._told.set()
        self._told = trio.Event()

    async def order(self, order: AnyOrder) -> None:
        """Send an order; it is acted on after those before it."""
        assert self._process.stdin is not None
        self._sent += 1
        try:
            await self._process.stdin.send_all(msgspec.json.encode(order) + b"\n")
        except trio.BrokenResourceError:
            raise InvalidRunError(_DIED) from None

    async def introduce(self, role: Role) -> None:
        """Say who it is: the first line."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(msgspec.json.encode(role) + b"\n")

    @property
    def current(self) -> News:
        """How it stands, and has heard every order."""
        if self.ended:
            raise InvalidRunError(_DIED)
        assert self.news is not None, "a player is hired when it has spoken"
        return self.news

    @property
    def up_to_date(self) -> bool:
        """Whether its news are from after our last order."""
        return self.current.heard >= self._sent

    async def audit(self) -> Account:
        """Ask for everything."""
        await self.order(Audit())
        with trio.move_on_after(ANSWER_SECONDS):
            while not self._accounts and not self.ended:
                await self._told.wait()
        if not self._accounts:
            raise InvalidRunError(_DIED if self.ended else "a process of the generator's own does not answer")
        return self._accounts.popleft()

    async def leave(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with trio.move_on_after(LEAVE_SECONDS, shield=True):
            await self._process.stdin.aclose()
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()


_DIED: Final = "a process of the generator's own died; what it said is above"


async def hire(nursery: trio.Nursery, part: Literal["crowd", "victims"], role: Role) -> Player:
    """Start a player and wait for its first word."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "loadgen.player", part], stdin=-1, stdout=-1
    )  # its complaints go where ours go
    player = Player(process)
    await player.introduce(role)
    with trio.fail_after(ANSWER_SECONDS):
        await nursery.start(player.listen)
    return player


@dataclass(kw_only=True)
class Totals:
    """The accounts of several players, merged."""

    groups: list[Group]
    lifetimes: dict[tuple[str, str], Latency]  # by group and persona
    acks: Latency = field(default_factory=Latency)
    echoes: Latency = field(default_factory=Latency)
    errors: Counter[str] = field(default_factory=Counter)
    unacknowledged: int = 0
    unreturned: int = 0
    unsent: int = 0
    felt: list[Felt] = field(default_factory=list)
    lag: Latency = field(default_factory=Latency)
    oldest: float | None = None
    own_faults: Counter[str] = field(default_factory=Counter)

    def add(self, account: Account) -> None:
        """Merge one more, groups apart."""
        for lifetimes in account.lifetimes:
            self._age(lifetimes)
        if account.spoken is not None:
            self._hear(account.spoken)
        self.felt += account.felt
        self.lag.add(account.lag)
        self.own_faults.update(account.own_faults)
        self.oldest = max((age for age in (self.oldest, account.oldest) if age is not None), default=None)

    def _age(self, lifetimes: Lifetimes) -> None:
        self.lifetimes.setdefault((lifetimes.group, lifetimes.persona), Latency()).add(lifetimes.ages)

    def _hear(self, spoken: Spoken) -> None:
        self.acks.add(spoken.acks)
        self.echoes.add(spoken.echoes)
        self.errors.update(spoken.errors)
        self.unacknowledged += spoken.unacknowledged
        self.unreturned += spoken.unreturned
        self.unsent += spoken.unsent


def merge(accounts: Iterable[Account]) -> Totals:
    """One account out of many."""
    accounts = list(accounts)
    totals = Totals(groups=merge_groups(account.groups for account in accounts), lifetimes={})
    for account in accounts:
        totals.add(account)
    return totals


def merge_groups(many: Iterable[Iterable[Group]]) -> list[Group]:
    """Add the same persona's parts in several processes; their peaks may not have been at one moment."""
    merged: dict[tuple[str, str], Group] = {}
    for group in (group for groups in many for group in groups):
        known = merged.get((group.group, group.persona))
        if known is None:
            merged[group.group, group.persona] = msgspec.structs.replace(group)
            continue
        for name in ("wanted", "held", "peak", "opened", "left", "sent_bytes", "received_bytes", "deliveries"):
            setattr(known, name, getattr(known, name) + getattr(group, name))
        for name in ("refused", "failed", "ended", "answers"):
            setattr(known, name, dict(Counter(getattr(known, name)) + Counter(getattr(group, name))))
    return list(merged.values())


def take_recent(players: Iterable[Player]) -> tuple[Latency, int]:
    """Operations of all these players that ended since this was last asked, and how many failed."""
    latency, failed = Latency(), 0
    for player in players:
        latency.merge(player.latency)
        failed += player.failed
        player.latency, player.failed = Latency(), 0
    return latency, failed


class Troupe:
    """The crowd, in however many processes."""

    def __init__(self, players: list[Player]) -> None:
        self.players = players
        self._next_index = 0

    async def cast(
        self,
        group: str,
        counts: Mapping[str, int],
        *,
        rooms: tuple[str, ...],
        poll_wait_seconds: float,
        path: str,
        websocket_path: str,
    ) -> None:
        """Make a group's clients, spread evenly over the processes."""
        number = len(self.players)
        for place, player in enumerate(self.players):
            # the remainder of one persona goes to other players than that of the next
            share = {
                name: count // number + ((place + offset) % number < count % number)
                for offset, (name, count) in enumerate(counts.items())
            }
            await player.order(
                CastCrowd(
                    group=group,
                    counts={name: count for name, count in share.items() if count},
                    rooms=list(rooms),
                    poll_wait_seconds=poll_wait_seconds,
                    path=path,
                    websocket_path=websocket_path,
                    first_index=self._next_index,
                )
            )
            # whole source addresses, so that no two processes share one
            self._next_index += -(-sum(share.values()) // PER_SOURCE) * PER_SOURCE

    async def open(self, group: str, share: float) -> None:
        """Open the group's clients up to this share of them."""
        for player in self.players:
            await player.order(Open(group=group, share=share))

    async def speak(self, rate: float, *, text_bytes: int = 0) -> None:
        """Begin the schedule; each process has the share of the rate that it has of the speakers."""
        speakers = [
            sum(group.wanted for group in player.current.groups if group.persona == SPEAKER) for player in self.players
        ]
        for player, number in zip(self.players, speakers, strict=True):
            if number:
                await player.order(Speak(rate=rate * number / sum(speakers), text_bytes=text_bytes))

    async def order(self, order: AnyOrder) -> None:
        """Give everybody the same order."""
        for player in self.players:
            await player.order(order)

    async def close(self, group: str) -> None:
        """Close a group's clients for good."""
        await self.order(Close(group=group))

    @property
    def settled(self) -> bool:
        """Whether every client that was to be opened is held or has failed."""
        return all(player.up_to_date and player.current.settled for player in self.players)

    @property
    def quiet(self) -> bool:
        """Whether every message that was sent is accounted for."""
        return all(player.up_to_date and not player.current.outstanding for player in self.players)

    def groups(self) -> list[Group]:
        """How all groups stand."""
        return merge_groups(player.current.groups for player in self.players)

    def held(self, group: str) -> int:
        """Clients of a group established now."""
        return sum(each.held for player in self.players for each in player.current.groups if each.group == group)

    @property
    def last_held(self) -> float:
        """When a client last came to be held."""
        return max(player.current.last_held for player in self.players)

    async def audit(self) -> Totals:
        """Everything that all processes have to tell."""
        return merge([await player.audit() for player in self.players])
