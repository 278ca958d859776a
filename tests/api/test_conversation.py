"""Each command of a WebSocket, over a real hub and a scripted sink."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from chatserver.api import conversation as conversation_module
from chatserver.api.conversation import Conversation, Outcome, Reply
from chatserver.api.dialect import Dialect
from chatserver.api.encoder import WireEncoder
from chatserver.api.identities import Identities
from chatserver.api.pages import Pages
from chatserver.api.pipelines.results import ResultCache
from chatserver.api.services import Services, WriteLimits
from chatserver.api.websocket_session import NOTHING, Waits, WebSocketSession
from chatserver.chat.audit import AuditTrail
from chatserver.chat.moderation import Moderation
from chatserver.chat.policy import OPEN, Access
from chatserver.chat.principal import Principal
from chatserver.chat.read_markers import ReadMarkers
from chatserver.chat.signed_out import SignedOut
from chatserver.chat.slow_mode import SlowMode
from chatserver.protocol import encoders
from chatserver.protocol.client_messages import ClientMessage, Join, Leave, Publish
from chatserver.protocol.errors import MessageError, MessageId
from chatserver.reasons import ErrorCode
from tests.support.chatting import Chatting, SmallSettings, chatting
from tests.support.scripted import LineEncoding, Peer

Clock = trio.testing.MockClock


class LineDialect(LineEncoding, Dialect):
    """Replies are kept; pushes are lines."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[dict[str, Any]] = []

    def reply(self, json: bytes) -> bytes:
        self.replies.append(msgspec.json.decode(json))
        return b"R\n"

    def long_reply(self, json: list[bytes]) -> list[bytes]:
        reply = self.reply(json[0] if len(json) == 1 else json[0] + json[-1])  # the messages are lines or JSON
        self.replies[-1]["messages"] = json[1:-1:2]
        return [reply]

    def refused(self, id_: MessageId, code: ErrorCode, message: str, retry_after: float | None = None) -> bytes:
        return self.reply(encoders.error(id_, code, message, retry_after))


@dataclass
class Talk:
    """One client of the conversation."""

    it: Chatting
    conversation: Conversation
    peer: Peer
    session: WebSocketSession

    @property
    def replies(self) -> list[dict[str, Any]]:
        dialect = self.session.dialect
        assert isinstance(dialect, LineDialect)
        return dialect.replies

    def hear(self, command: ClientMessage) -> Outcome:
        return self.conversation.handle(self.peer, self.session, command)

    def may_go_on(self) -> bool:
        return self.conversation.advance(self.peer, self.session)

    async def answer(self, command: ClientMessage) -> dict[str, Any]:
        """The reply to a command, after its wait for the log if it has one. Raises MessageError."""
        outcome = self.hear(command)
        if callable(outcome):
            outcome = await outcome(self.peer, self.session, command)
        assert isinstance(outcome, Reply)
        if outcome.member is not None:
            self.peer.members.append(outcome.member)
            self.it.hub.broadcaster.deliver(outcome.member)
        return self.replies[-1]

    async def refused(self, command: ClientMessage) -> ErrorCode:
        with pytest.raises(MessageError) as caught:
            await self.answer(command)
        return caught.value.code

    def close(self, *, gone: bool = True) -> None:
        """Do what the end of its connection does, or its beginning: a close frame."""
        self.conversation.released(self.peer, self.session)
        self.peer.gone = gone


@asynccontextmanager
async def talking(
    *, access: Access = OPEN, shared: bool = False, **options: Any
) -> AsyncIterator[tuple[Chatting, Callable[..., Talk]]]:  # fmt: skip
    """A running hub, and a function that makes clients of it."""
    settings = SmallSettings(**{"publish_rate": 0.0, **options})
    async with chatting(ring_messages=16, shared=shared) as it:
        encoder = WireEncoder(it.log.identity.epoch)
        identities = Identities(it.log.identity.secret, access, SignedOut())
        services = Services(
            hub=it.hub, log=it.log, identities=identities, pages=Pages(it.hub.reader, encoder), encoder=encoder,
            settings=settings, markers=ReadMarkers(it.log.markers), write_limits=WriteLimits(settings),
            search_results=ResultCache(), moderation=Moderation(), slow_mode=SlowMode(lambda room: 0.0),
            audit=AuditTrail(wall_ms=it.log.wall_ms), refusals=dict.fromkeys(ErrorCode, 0),
        )  # fmt: skip
        conversation = Conversation(services, it.sink)

        def client(kind: type[Principal] = Principal) -> Talk:
            peer = it.peer()
            session = WebSocketSession(kind(peer.number, peer.network), LineDialect())
            return Talk(it, conversation, peer, session)

        yield it, client


# -- publish ----------------------------------------------------------------------------------------------------------


async def test_a_publish_is_acknowledged_when_it_is_durable_or_has_failed(autojump_clock: Clock) -> None:
    async with talking() as (it, client):
        ann = client()
        for failing in (0, 1):
            it.log.failing_commits = failing
            assert ann.hear(Publish("lobby", "hi", id=7)) is None
            assert (len(ann.replies), ann.session.in_flight, ann.session.waits) == (failing, 1, NOTHING)
            await it.until_idle()
        stored, refused = ann.replies
        assert [stored[name] for name in ("type", "id", "offset", "room")] == ["ack", 7, 1, "lobby"]
        assert [refused[name] for name in ("type", "id", "code")] == ["error", 7, "unavailable"]
        assert refused["retry_after"] > 0
        assert "with the same key" in refused["message"], "it may have been stored"
        assert ann.session.in_flight == 0


async def test_an_author_gets_its_message_in_one_write_with_the_acknowledgement(autojump_clock: Clock) -> None:
    """Unless it lacks more than that, or is blocked: then the broadcast goes on with it, and nothing comes twice."""
    async with talking() as (it, client):
        ann, bob, joe = client(), client(), client()  # joe takes part without joining
        for each in (ann, bob):
            await each.answer(Join("lobby"))
        await trio.sleep(5.0)  # presence has been told

        async def written(*authors: Talk) -> list[bytes]:
            it.sink.chunks.clear()
            with it.together():
                for author in authors:
                    author.hear(Publish("lobby", "hi"))
            await it.until_idle()
            return it.sink.chunks

        assert await written(ann) == [b"R\nM lobby 1 hi\n", b"M lobby 1 hi\n"]
        assert await written(joe) == [b"R\n", *[b"M lobby 2 hi\n"] * 2]
        assert await written(ann, bob) == [b"R\n", b"R\n", *[b"M lobby 3 hi\nM lobby 4 hi\n"] * 2]
        bob.peer.space = 5  # the acknowledgement, and a part of the message
        assert await written(bob) == [b"R\nM lobby 5 hi\n", b"M lobby 5 hi\n"]
        assert await written(bob) == [b"M lobby 6 hi\n"], "to ann: bob is blocked"
        assert bob.peer.rest == [b"obby 5 hi\n", b"R\n"], "the next message is in the ring alone"
        it.sink.take_all([bob.peer])
        assert [each.peer.offsets("lobby") for each in (ann, bob)] == [[1, 2, 3, 4, 5, 6]] * 2
        assert it.hub.broadcaster.delivered == 12
        assert len(ann.replies) == 3


async def test_a_busy_log_is_told_at_once(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.log.groups.MAX_PENDING", 1)
    async with talking() as (it, client):
        ann = client()
        with it.together():
            assert ann.hear(Publish("lobby", "one")) is None
            refused = await ann.answer(Publish("lobby", "two", id=2))
            assert [refused[name] for name in ("type", "id", "code")] == ["error", 2, "unavailable"]
            assert "was not stored" in refused["message"]
        assert ann.session.in_flight == 1


async def test_over_a_number_of_waiting_publishes_the_client_is_not_read(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_module, "MAX_IN_FLIGHT", 4)
    async with talking() as (it, client):
        ann = client()
        await client().answer(Join("lobby"))
        with it.together():
            waits = [ann.hear(Publish("lobby", "hi")) or ann.session.waits for _ in range(4)]
        assert waits == [NOTHING, NOTHING, NOTHING, Waits.LOG]
        assert (ann.peer.resumed, ann.may_go_on()) == (0, False)
        await it.until_idle()
        assert ann.may_go_on()
        assert ann.peer.resumed == 1, "once, when the first is durable"
        assert len(ann.replies) == 4


@pytest.mark.parametrize("end", ["", "closing", "closed"])
async def test_a_publisher_waits_for_the_members_of_a_room_it_is_ahead_of(autojump_clock: Clock, end: str) -> None:
    """While it closes, no acknowledgement follows the close frame."""
    async with talking() as (it, client):
        ann, bob = client(), client()
        await bob.answer(Join("lobby"))
        with it.together():
            for _ in range(9):
                assert ann.hear(Publish("lobby", "hi")) is None
        room = it.hub.rooms["lobby"]
        assert ann.session.waits is room
        assert list(room.paused or ()) == [ann.peer]
        if end:
            ann.close(gone=end == "closed")
            assert not room.paused
        await it.until_idle()
        assert bob.peer.offsets("lobby") == list(range(1, 10)), "its messages are delivered"
        assert (ann.peer.resumed, len(ann.replies)) == ((0, 0) if end else (1, 9))
        assert ann.session.waits is (Waits.GONE if end else room)


async def test_a_publisher_goes_on_though_another_one_is_paused_again(autojump_clock: Clock) -> None:
    """All are resumed together; the first may fill the room before the second has its turn.

    A client whose message a task handles, or whose connection is closed, does not go on because a room resumes it.
    """
    async with talking() as (it, client):
        ann, bob, cat = client(), client(), client()
        await cat.answer(Join("lobby"))
        for publishers in ((ann, bob), (ann,)):
            with it.together():
                for each in publishers:
                    each.session.waits = NOTHING
                    for _ in range(9):
                        each.hear(Publish("lobby", "hi"))
                assert [each.may_go_on() for each in (ann, bob)] == [False, publishers == (ann,)]
            await it.until_idle()
            assert [each.may_go_on() for each in (ann, bob)] == [True, True]
        for waits in (Waits.TASK, Waits.GONE):
            cat.session.waits = waits
            assert not cat.may_go_on()


# -- join and leave ---------------------------------------------------------------------------------------------------


async def test_a_second_join_begins_anew_from_its_cursor(autojump_clock: Clock) -> None:
    async with talking() as (it, client):
        await it.publish("lobby", *map(str, range(20)))  # more than the ring holds
        ann = client()
        await ann.answer(Join("lobby"))
        first = ann.session.find("lobby")
        assert first is not None
        again = await ann.answer(Join("lobby", after=1))
        assert len(again["messages"]) == 19
        assert [*ann.session.rooms()] == [ann.session.find("lobby")] == [*it.hub.rooms["lobby"].members]
        assert first.connection is None
        assert len(it.hub.rooms["lobby"].presence) == 1


async def test_a_second_join_is_no_arrival(autojump_clock: Clock) -> None:
    async with talking() as (_, client):
        ann, bob = client(), client()
        for each in (ann, bob):
            await each.answer(Join("lobby"))
        await trio.sleep(3.0)
        told = bob.peer.presence("lobby")
        await ann.answer(Join("lobby"))
        await trio.sleep(3.0)
        assert bob.peer.presence("lobby") == told
        await ann.answer(Leave("lobby"))
        await trio.sleep(3.0)
        assert bob.peer.presence("lobby")[len(told) :] == [("-", str(ann.peer.number), 1)]


async def test_a_connection_is_limited_in_rooms_and_in_empty_rooms(autojump_clock: Clock) -> None:
    async with talking(max_rooms_per_connection=3, max_empty_rooms=1) as (it, client):
        for room in ("a", "b", "c"):
            await it.publish(room, "hi")
        ann = client()
        for _ in range(2):
            await ann.answer(Join("mine"))  # the second time it is a member already
        for _ in range(2):
            assert await ann.refused(Join("mine too", id=3)) is ErrorCode.TOO_MANY_ROOMS
        assert "mine too" not in it.hub.rooms, "a refused room is not made"
        assert (await ann.answer(Join("c")))["type"] == "joined", "it is not in memory, but has messages"
        await ann.answer(Leave("c"))
        await client().answer(Join("another's"))
        assert await ann.refused(Join("another's")) is ErrorCode.TOO_MANY_ROOMS, "an empty room in memory counts"
        for room in ("a", "b"):
            await client().answer(Join(room))  # so that it is in memory
            await ann.answer(Join(room))
        assert await ann.refused(Join("c")) is ErrorCode.TOO_MANY_ROOMS
        assert (await ann.answer(Join("a")))["type"] == "joined", "it is a member already"
        await ann.answer(Leave("mine"))
        await ann.answer(Join("another's"))
        await ann.answer(Leave("b"))
        await it.publish("another's", "now it is not empty")
        await ann.answer(Join("mine too"))


async def test_an_empty_room_may_be_joined_again_from_any_cursor(autojump_clock: Clock) -> None:
    """Of a shared log, a cursor after the end may be one of another process, so the log is asked."""
    async with talking(shared=True, max_empty_rooms=1) as (_, client):
        ann = client()
        for after in (None, 5):
            assert (await ann.answer(Join("mine", after=after)))["type"] == "joined"


async def test_a_connection_that_closes_while_its_room_is_loaded_is_in_no_room(autojump_clock: Clock) -> None:
    async with talking() as (it, client), trio.open_nursery() as nursery:
        it.log.delay = 1.0
        ann = client()

        async def join() -> None:
            with pytest.raises(MessageError, match="closed"):
                await ann.answer(Join("lobby", id=1))

        nursery.start_soon(join)
        await trio.sleep(0.5)
        ann.close()
        await trio.sleep(5.0)
        assert it.hub.statistics()["members"] == 0
        assert ann.session.members is None
