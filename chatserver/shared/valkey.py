"""One Valkey server: a connection that is kept up, and calls that fail fast while it is down.

Owns: the connection, its deadlines, and the log lines when it is lost and restored. May not: know what is kept.

Only `run` connects. While the server is away a call fails at once, so that a slow server costs one deadline instead of
one for each request; messages are dropped meanwhile, so that nothing piles up. One connection carries calls and
messages (RESP3).
"""

import logging
import random
from collections.abc import Callable, Sequence

import structlog
import trio
from coredis.connection import TCPConnection, TCPLocation
from coredis.exceptions import ConnectionError as RefusedError
from coredis.exceptions import NoScriptError, RedisClusterError, RedisError, ResponseError

from chatserver.shared.shards import Script, SharedError

#: Seconds for connecting, including the first answers.
CONNECT_DEADLINE = 2.0
#: Seconds for an answer; a server in another region takes 0.1.
CALL_DEADLINE = 0.25
#: Seconds between two checks that it still answers and accepts writes, and for the answer to a check.
CHECK_INTERVAL, CHECK_DEADLINE = 1.0, 1.0
#: Mean seconds between two attempts to connect; each wait is 0.5 to 1.5 times that.
RETRY_EVERY = 1.0
#: Milliseconds for which the key of a check is kept.
CHECK_KEY_MS = 10_000
#: Characters of a reason in the log.
MAX_REASON = 200
#: The advice to the operator while the server has never answered as Valkey does.
_MAY_BE_ANOTHER = "; is it a Valkey server, without TLS? Check its host and port in --shared"

_log = structlog.get_logger("chatserver.shared")
# coredis logs an error with a traceback at each attempt to connect that times out; we log one line for each outage.
logging.getLogger("coredis").setLevel(logging.CRITICAL)


class ValkeyShard:
    def __init__(self, host: str, port: int, *, user: str | None = None, password: str | None = None) -> None:
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.failures = 0  # calls without a good answer
        self.connections = 0  # made so far
        self._location = TCPLocation(host, port)
        self._user, self._password = user, password
        self._connection: TCPConnection | None = None  # while connected
        self._lost: trio.Event  # of the present connection
        self._reason = ""  # why it is away; "" until that is logged
        self._is_refused = False  # that reason is a refusal of the server's own

    @property
    def up(self) -> bool:
        """Whether it is connected; otherwise calls fail at once."""
        return self._connection is not None

    async def call(self, command: bytes, *arguments: bytes | str | int) -> object:
        """Send a command and return its answer. Raises SharedError."""
        connection = self._connection
        if connection is None:
            raise SharedError(f"{self.name} is away")
        try:
            return await connection.create_request(command, *arguments, timeout=CALL_DEADLINE)
        except ResponseError as error:
            self.failures += not isinstance(error, NoScriptError)
            raise SharedError(f"{self.name}: {error}") from error
        except Exception as error:  # the parser may raise anything for garbage
            self.failures += 1
            self._lose(connection, error)
            raise SharedError(f"{self.name}: {error}") from error

    async def run_script(self, script: Script, keys: Sequence[str], *arguments: bytes | str | int) -> object:
        """Run a script and return its result. Raises SharedError."""
        try:
            return await self.call(b"EVALSHA", script.digest, len(keys), *keys, *arguments)
        except SharedError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # The server is new, or was restarted.
        return await self.call(b"EVAL", script.text, len(keys), *keys, *arguments)

    def send(self, command: bytes, *arguments: bytes | str | int) -> None:
        """Send a command without waiting for its answer; while the server is away it is dropped."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.create_request(command, *arguments)
        except Exception as error:  # noqa: BLE001  the connection has just closed
            self._lose(connection, error)

    async def run(self, channel: str, on_message: Callable[[bytes], None]) -> None:
        """Keep it connected until cancelled; `on_message` is called with each message on the channel."""
        while True:
            try:
                await self._stay_connected(channel, on_message)
            except* Exception as group:  # noqa: BLE001  as in `call`
                self._note(_innermost(group), _MAY_BE_ANOTHER)
            await trio.sleep(RETRY_EVERY * random.uniform(0.5, 1.5))  # noqa: S311  jitter, not secrecy

    async def _stay_connected(self, channel: str, on_message: Callable[[bytes], None]) -> None:
        """Connect, and return when the server is lost. Raises the errors of the client library, in a group."""
        connection = TCPConnection(
            self._location, username=self._user, password=self._password, connect_timeout=CONNECT_DEADLINE,
            stream_timeout=CHECK_DEADLINE,
        )  # fmt: skip
        self._lost = trio.Event()
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT_DEADLINE) as connecting:
                    await nursery.start(connection.run)
                    # A refusal to subscribe arrives as the answer to the next request; success is no answer.
                    connection.send_command(b"SUBSCRIBE", channel)
                    await self._look(connection, channel)
                    # A node of a Valkey Cluster refuses two keys in one request, as some of our scripts have.
                    await connection.create_request(b"EXISTS", f"{channel}:look", channel)
                    # As fast as a call must be: otherwise the first call would lose a server that is too far away.
                    await connection.create_request(b"PUBLISH", f"{channel}:look", b"", timeout=CALL_DEADLINE)
            except RedisError:
                if connecting.cancel_called:  # the library reports this only as a missing connection
                    raise trio.TooSlowError from None
                raise
            nursery.start_soon(self._listen, connection, on_message)
            nursery.start_soon(self._watch, connection, channel)
            self._connection = connection
            self.connections += 1
            if self._reason:
                _log.info("shard_found", shard=self.name)
                self._reason = ""
            try:
                await self._lost.wait()
            finally:
                self._connection = None  # before calls under way fail, so that they do not count as an outage
            nursery.cancel_scope.cancel()

    async def _look(self, connection: TCPConnection, channel: str) -> None:
        """Check that it answers and accepts writes, since a replica answers too. Raises RedisError and TimeoutError."""
        await connection.create_request(b"SET", f"{channel}:look", b"", b"PX", CHECK_KEY_MS)

    async def _watch(self, connection: TCPConnection, channel: str) -> None:
        """Check the server from time to time, so that an unresponsive one is noticed even without calls."""
        while not self._lost.is_set():
            await trio.sleep(CHECK_INTERVAL)
            try:
                await self._look(connection, channel)
            except Exception as error:  # noqa: BLE001  as in `call`
                self._lose(connection, error)

    async def _listen(self, connection: TCPConnection, on_message: Callable[[bytes], None]) -> None:
        try:
            async for message in connection.push_messages:
                match message:
                    case [b"message", _, bytes() as data]:
                        on_message(data)
        except RedisError as error:
            self._lose(connection, error)

    def _lose(self, connection: TCPConnection, error: Exception) -> None:
        if self._connection is connection:
            self._connection = None
            reason = _innermost(error)
            # Once connected, the library refuses only what follows an end that it has just noticed.
            self._note(EOFError() if isinstance(reason, RefusedError) else reason)
            self._lost.set()

    def _note(self, error: BaseException, hint: str = "") -> None:
        """Log one line for each outage, however many attempts it lasts, and the first refusal in another one.

        A restarted server first closes the connection, and may refuse for another reason, such as a new password.
        """
        is_refusal = isinstance(error, ResponseError)
        if not self._reason or (is_refusal and not self._is_refused):
            self._reason, self._is_refused = _words(error, hint), is_refusal
            _log.warning("shard_lost", shard=self.name, reason=self._reason[:MAX_REASON])


def _innermost(error: BaseException) -> BaseException:
    """The system's error, below those of the libraries."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def _words(error: BaseException, hint: str) -> str:
    """The error in words for people, with the hint if another kind of server would cause it too."""
    text = " ".join(str(error).split())
    match error:
        case RedisClusterError():
            return "it is a node of a Valkey Cluster, and --shared needs servers by themselves"
        case ResponseError() | RefusedError():  # the server's own words
            return text
        case TimeoutError() | trio.TooSlowError():
            return f"it does not answer{hint}"
        case ConnectionResetError() | BrokenPipeError():
            return f"it has closed the connection{hint}"
        case OSError():
            return text
    # The library's end-of-stream error has no message; its parser's errors have one, which is not for people.
    is_end = not text and not isinstance(error, AssertionError)
    return f"it {'has closed the connection' if is_end else 'does not answer as Valkey does'}{hint}"
