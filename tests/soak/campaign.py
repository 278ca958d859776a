"""A campaign of rounds: troubles while clients publish, then a check of everything.

Owns: the order of a round, the deadlines for recovery, the report. May not: know how a trouble is made or what is wrong
with a record.

Each round begins with some troubles under publishers. Then the publishers finish what they have begun, and without any
more writes all nodes must give the same answers: the whole log, how each record reads, and who is present.
"""

import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import trio

from tests.soak.clients import LOSSES, Client, Listener, Publisher
from tests.soak.cluster import Cluster
from tests.soak.ledger import Ledger, Room, Violation
from tests.soak.troubles import Scene, troubles_of
from tests.support.peers import Address, ask
from tests.support.serving import eventually
from tests.support.transports import TRANSPORTS

ROOMS = ("lobby", "ops")
PUBLISHERS = 3  # in each room
#: Seconds in which all clients must be served again after a trouble: generous, since a slow machine is no fault.
RECOVERY = 120.0
PAUSE = 1.5  # s before the next trouble, at most
TROUBLES_A_ROUND = 12
#: One trouble in this many is followed by the next before all clients have recovered.
OVERLAP = 0.3
#: Questions to each node at the end of a round: enough to reach each of its workers, most likely.
QUESTIONS, PAGE = 4, 200

Tell = Callable[[str], None]


class Campaign:
    """See the module. What was done and found so far is in its attributes, and as text in `told`."""

    def __init__(self, cluster: Cluster, seed: int, tell: Tell) -> None:
        self.ledger = Ledger()
        self.rounds = 0
        self.troubles: Counter[str] = Counter()
        self.recent: deque[str] = deque(maxlen=6)  # troubles, with their times
        self.recoveries: list[tuple[float, str]] = []  # seconds, and the trouble
        dice = random.Random(seed)
        addresses = [node.address for node in cluster.nodes]
        numbers = count(1)
        self.publishers = [
            Publisher(f"p{next(numbers)}", room, self.ledger, addresses, random.Random(dice.random()))
            for room in ROOMS
            for _ in range(PUBLISHERS)
        ]
        self.listeners = [
            Listener(
                f"{transport}-{room}", transport, room, self.ledger, addresses,
                random.Random(dice.random()),
            )
            for room in ROOMS
            for transport in TRANSPORTS
        ]  # fmt: skip
        clients: list[Client] = [*self.publishers, *self.listeners]
        self.scene = Scene(cluster, clients, dice)
        self._cluster = cluster
        self._tell = tell
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    async def run(self, seconds: float) -> None:
        """Play rounds until the time is over."""
        table = troubles_of(self._cluster)
        weights = [weight for weight, _ in table.values()]
        async with self._listening():
            while self.seconds < seconds:
                async with self._publishing():
                    for trouble in self.scene.dice.choices(list(table), weights, k=TROUBLES_A_ROUND):
                        await self.trouble(trouble)
                        if self.seconds >= seconds:
                            break
                await self.look()
                self._tell(self._progress())

    def _progress(self) -> str:
        slowest, why = max(self.recoveries)
        return (
            f"{self.seconds:6.0f} s  {self.ledger.acknowledged:7,} records"
            f"  {self.troubles.total():4} troubles  {self.scene.signals['SIGKILL']:4} processes killed"
            f"  slowest recovery {slowest:.1f} s ({why})"
        )

    def told(self, *, is_whole: bool) -> list[str]:
        """The lines of the report; `is_whole`: it has ended as it should, and everything was looked at."""
        ledger, recoveries = self.ledger, sorted(self.recoveries)
        connections = sum(each.connections for each in self.scene.clients)
        signals = ", ".join(f"{name} {times}" for name, times in self.scene.signals.most_common()) or "none"
        no_loss, in_order = (": none lost, none doubled", ": each once, in order") if is_whole else ("", "")
        lines = [
            f"{self.seconds:.0f} s, {self.rounds} rounds, {self.troubles.total()} troubles:",
            *(f"  {times:4}  {name}" for name, times in self.troubles.most_common()),
            f"signals to processes: {signals}; nodes started {sum(node.starts for node in self._cluster.nodes)} times",
            f"{ledger.acknowledged:,} records acknowledged, {ledger.repeated:,} of them twice{no_loss}",
            f"{ledger.seen:,} records heard over {connections:,} connections{in_order}",
            f"epoch {ledger.epoch} all the time, {ledger.told_of_loss} gaps told",
        ]
        if recoveries:
            (median, _), (slowest, why) = recoveries[len(recoveries) // 2], recoveries[-1]
            lines.append(f"recovery: median {median:.2f} s, slowest {slowest:.1f} s ({why})")
        lines.append(f"slowest acknowledgement: {max(each.slowest for each in self.publishers):.1f} s")
        if not is_whole:
            lines = [f"until then: {lines[0]}", *lines[1:], f"done last: {', '.join(self.recent) or 'nothing'}"]
        return lines

    # -- the participants ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for listener in self.listeners:
                nursery.start_soon(listener.run)
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def _publishing(self) -> AsyncIterator[None]:
        """Publishers act during the block; after it all their acts are acknowledged."""
        async with trio.open_nursery() as nursery:
            for publisher in self.publishers:
                publisher.stopping = False
                nursery.start_soon(publisher.run)
            await self._recovered("the beginning")
            yield
            await self._cluster.until_up()
            for publisher in self.publishers:
                publisher.stopping = True
            nursery.cancel_scope.deadline = trio.current_time() + RECOVERY
        late = [each.name for each in self.publishers if not each.is_over]
        if late:
            raise Violation(f"{', '.join(late)} had no acknowledgement for {RECOVERY:g} s")

    # -- troubles -----------------------------------------------------------------------------------------------------

    async def trouble(self, name: str) -> None:
        """Cause a trouble, and usually wait until all clients have recovered."""
        _, do = troubles_of(self._cluster)[name]
        self.recent.append(f"{self.seconds:.1f} s {name}")
        await do(self.scene)
        self.troubles[name] += 1
        if self.scene.dice.random() >= OVERLAP:
            await self._recovered(name)
        await trio.sleep(self.scene.between((0.0, PAUSE)))

    async def _recovered(self, what: str) -> None:
        """Wait until each publisher had one more acknowledgement and each listener has all present records."""
        began = trio.current_time()
        done = [each.done for each in self.publishers]
        behind = self._behind()

        def late() -> list[str]:
            return [*(each.name for each, n in zip(self.publishers, done, strict=True) if each.done <= n), *behind()]

        await self._eventually(lambda: not late(), lambda: f"after {what}, {', '.join(late())} did not recover")
        self.recoveries.append((trio.current_time() - began, what))

    def _behind(self) -> Callable[[], list[str]]:
        """A function that names the listeners without all records of this moment."""
        tops = {room: self.ledger.room(room).top for room in ROOMS}
        return lambda: [each.name for each in self.listeners if each.position.at < tops[each.position.room.name]]

    # -- checks -------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Between publishes, check that all nodes have the same records and members."""
        self.rounds += 1
        behind = self._behind()
        await self._eventually(lambda: not behind(), lambda: f"{', '.join(behind())} never got all records")
        for name in ROOMS:
            room = self.ledger.room(name)
            records = await self._read(room, room.checked)
            self.ledger.check_log(room, records, after=room.checked)
            # Older messages may have been changed since.
            room.checked = max(0, room.top - PAGE)
            for node in self._cluster.nodes:
                for _ in range(QUESTIONS):
                    page = await self._get(node.address, f"/rooms/{name}/messages?limit={PAGE}")
                    self.ledger.check_shown(room, page["messages"], node.name)
                await self._until_all_are_listed(node.address, name)

    async def _until_all_are_listed(self, address: Address, room: str) -> None:
        """Wait until each worker lists exactly the listeners."""
        answers: list[Any] = []

        async def listed() -> bool:
            answers[:] = [await self._get(address, f"/rooms/{room}/members") for _ in range(QUESTIONS)]
            return {answer["count"] for answer in answers} == {len(TRANSPORTS)}

        await self._eventually(listed, lambda: f"{len(TRANSPORTS)} are in {room}, and its members are {answers}")

    async def look_at_all(self) -> None:
        """Check the present state of the whole log."""
        for name in ROOMS:
            room = self.ledger.room(name)
            self.ledger.check_shown(room, await self._read(room, 0), "the log")

    async def _read(self, room: Room, after: int) -> list[Any]:
        found: list[Any] = []
        address = self.scene.node().address
        while True:
            page = await self._get(address, f"/rooms/{room.name}/messages?after={after}&limit={PAGE}")
            if not page["messages"]:
                return found
            found += page["messages"]
            after = found[-1]["offset"]

    async def _get(self, address: Address, path: str) -> Any:
        """GET until there is an answer with status 200."""
        answers: list[Any] = []

        async def answered() -> bool:
            with trio.move_on_after(5.0):
                try:
                    answer = await ask(address, "GET", path)
                except LOSSES:
                    return False
                if answer.status == 200:
                    answers.append(answer.json)
            return bool(answers)

        await self._eventually(answered, lambda: f"no answer to GET {path}")
        return answers[0]

    async def _eventually(self, look: Callable[[], bool | Awaitable[bool]], otherwise: Callable[[], str]) -> None:
        try:
            await eventually(look, within=RECOVERY)
        except trio.TooSlowError:
            raise Violation(f"{otherwise()} ({RECOVERY:g} s)") from None
