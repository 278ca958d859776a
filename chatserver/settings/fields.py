"""Every setting, once: its flag, its default, its bounds and the reason for it.

Owns: `Settings`, from which flags, `CHATSERVER_…` variables, the TOML file and `chatserver limits` are made, so that a
new limit is one new field here; and the share of a limit that one of several workers has. May not: import trio or our
modules outside this folder; read files or the environment (sources.py does); or know what a limit is used for.

0 means "none" only where a field says so.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from chatserver.settings import forms
from chatserver.settings.forms import LogFormat
from chatserver.settings.rooms import Guests, RoomPolicy
from chatserver.settings.spec import DAY, ConfigError, Section, Sharing, Spec, Unit, plain, setting

MAX_WORKERS = 256  # processes: one for each core of the largest machines

_MIB = 1 << 20
_MOST_CONNECTIONS = _MIB  # what Linux allows one process, fs.nr_open
#: Standard deviations above the mean in the share of a limit on connections, which the kernel spreads at random: a
#: network that is at the limit is refused by a worker in 1 of 700 cases.
SPREAD_DEVIATIONS = 3.0
#: Settings that may not be below other ones.
LOWER_BOUNDS = {
    "body_deadline_max": ("body_deadline",),
    "all_unfinished_bytes": ("max_body_bytes", "max_message_bytes"),
}

#: Settings other than limits.
service = partial(setting, Section.SERVICE)
admission = partial(setting, Section.ADMISSION)
#: In seconds and never 0: in a state without an end a slow peer could stay for ever.
deadline = partial(setting, Section.DEADLINES, unit=Unit.SECONDS, minimum=0.1, maximum=DAY)
#: What one peer may send.
size = partial(setting, Section.SIZES)
rate = partial(setting, Section.RATES)
memory = partial(setting, Section.MEMORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one server. Fields are in the order in which help and `limits` show them."""

    # A table: default and meaning; reason; unit and bounds.
    # fmt: off
    host: tuple[str, ...] = service(
        ("127.0.0.1",),
        "Address to bind; repeat it for more, [::1] for IPv6. Of a name, its IPv4 address if it has one.",
        placeholder="ADDRESS",
    )
    port: int = service(8000, "Port to bind; 0 picks a free one, which is printed.", maximum=65_535)
    workers: int = service(
        1, "Processes that serve side by side on the same port; more than 1 need a log that they can share.",
        minimum=1, maximum=MAX_WORKERS,
    )
    tls_cert: str = service(
        "", "Certificate chain in PEM form: serve https and wss only.",
        placeholder="FILE", zero="plain http",
    )
    tls_key: str = service(
        "", "Its private key, in PEM form and not encrypted. SIGHUP reads both again.",
        placeholder="FILE", zero="none",
    )
    allow_origin: tuple[str, ...] = service(
        (),
        "Origin whose pages may use this server as its own page does, like https://app.example; repeat it for more.",
        placeholder="ORIGIN", form=forms.origin, zero="its own page only",
    )
    allow_host: tuple[str, ...] = service(
        (), "Further name of this server; requests with another Host get 421. Repeat it for more.",
        placeholder="NAME", form=forms.host, zero="the bound addresses and localhost; any, if bound to all addresses",
    )
    metrics_listen: str = service(
        "", "Serve /metrics here and not on --port.",
        placeholder="HOST:PORT", form=forms.listen, zero="on --port",
    )
    proxy_protocol: bool = service(False, "Connections from --trusted-proxy begin with a PROXY header, version 1 or 2.")
    trusted_proxy: tuple[str, ...] = service(
        (), "Address or network of a proxy that is trusted to name its clients in X-Forwarded-For; repeat it for more.",
        placeholder="NETWORK", form=forms.network, zero="nobody",
    )
    guests: Guests = service(  # noqa: RUF009  (it is dataclasses.field)
        Guests.FULL, "What people may do without signing in: full, read (but not write), none.",
        placeholder="WHAT",
    )
    token_key: tuple[str, ...] = service(
        (),
        "Key of tokens (JWT) to sign in with: a secret (made if missing), a PEM public key or a JWK set; repeatable.",
        placeholder="FILE", zero="none: everybody is a guest",
    )
    token_jwks: str = service(
        "", "Address at which a provider publishes further keys, as a JWK set; https, or http on the loopback.",
        placeholder="URL", form=forms.keys_url, zero="none",
    )
    user_header: str = service(
        "", "Header in which --trusted-proxy names the user who has signed in there.",
        placeholder="NAME", form=forms.header_name, zero="none",
    )
    token_issuer: str = service("", "Required `iss` of a token.", placeholder="TEXT", zero="not checked")
    token_audience: str = service("", "Required `aud` of a token.", placeholder="TEXT", zero="not checked")
    log: str = service(
        "sqlite:chat.db", "Where messages live: memory:, sqlite:PATH or postgresql://USER@HOST/DATABASE.",
        placeholder="URL", form=forms.log_url,
    )
    shared: str = service(
        "", "Valkey servers by which processes share presence, rates and caches: valkey://HOST:PORT[,HOST:PORT...].",
        placeholder="URL", form=forms.shards, zero="nothing is shared",
    )
    log_format: LogFormat = service(  # noqa: RUF009  (it is dataclasses.field)
        LogFormat.AUTO, "Log lines: auto is pretty on a terminal, json elsewhere.",
        placeholder="FORMAT",
    )
    quiet: bool = service(False, "Log warnings and errors only.")
    echo: bool = service(False, "Also serve /echo, which sends each message back: for conformance suites.")

    max_connections: int = admission(
        0, "Connections held at once; at the limit a newcomer takes the place of a waiting one, or gets 503.",
        "64 descriptors stay free for the log and the listeners; at its worst a client takes 128 KiB, half of them in"
        " the kernel, so set it where the memory is little",
        Unit.CONNECTIONS, 1, _MOST_CONNECTIONS * MAX_WORKERS, zero="from RLIMIT_NOFILE", sharing=Sharing.DIVIDED,
    )
    per_ip: int = admission(
        512, "Connections from one network (an IPv4 address or an IPv6 /64); more get 503.",
        "one machine cannot take all places; an office behind one address fits",
        Unit.CONNECTIONS, 1, _MOST_CONNECTIONS, zero="no cap", sharing=Sharing.SPREAD,
    )
    evict_after: float = admission(
        2.0, "When places run out: a connection may be evicted once its wait x its network's connections reaches this.",
        "a person alone on a slow line keeps the place (a lost packet is resent after 1 s); a crowd loses it sooner",
        Unit.SECONDS, 0.1, DAY,
    )

    tls_deadline: float = deadline(
        10.0, "From accept to the end of the TLS handshake, in total; then the connection is closed.",
        "an incomplete handshake costs 43 KB in OpenSSL for no longer; ranch 5 s, Kestrel 10 s, nginx 60 s",
    )
    head_deadline: float = deadline(
        10.0,
        "From accept, or the first byte of a later request, to the end of the head; then 408. No byte extends it.",
        "a slow-loris keeps its place no longer; cowboy 5 s, uWS and websockets 10 s, Apache 20-40 s, nginx 60 s",
    )
    body_deadline: float = deadline(
        10.0, "For a request body, in total; each KiB received adds 1 s. Then 408.",
        "a body that comes byte by byte ends soon; Apache 20 s and 1 s per 500 B, Kestrel 240 B/s after 5 s",
    )
    body_deadline_max: float = deadline(
        30.0, "For a request body, however much of it has come; then 408.",
        "no steady drip lasts for ever, as it may on Apache; 64 KiB at 3 KB/s takes 22 s",
    )
    keepalive_deadline: float = deadline(
        60.0, "From an answer to the next request on its connection; then the connection is closed.",
        "idle connections do not keep places that others need; nginx 75 s, Kestrel 120 s, hypercorn 5 s",
    )
    serving_deadline: float = deadline(
        10.0, "For the server's own answer, which mostly waits for the log; then 503.",
        "while the log hangs, clients are told to come back; usually it takes milliseconds",
    )
    poll_wait_max: float = deadline(
        60.0, "The longest a long-poll is held, whatever it asked for; then it is answered without messages.",
        "many proxies give up after 60 s, and a client that vanished is noticed; clients ask for 25-30 s",
        minimum=1.0, maximum=3600.0,
    )
    heartbeat_interval: float = deadline(
        20.0, "Silence on an event stream after which a comment is sent.",
        "proxies and mobile carriers cut silent streams after 30-60 s; the HTML standard says about 15 s",
        minimum=1.0, maximum=3600.0,
    )
    ping_interval: float = deadline(
        25.0, "Silence on a WebSocket after which a ping is sent.",
        "proxies cut silent connections, and only a ping finds peers that vanished; Centrifugo 25 s, websockets 20 s",
        minimum=1.0, maximum=3600.0,
    )
    pong_deadline: float = deadline(
        10.0,
        "For any byte from the peer after a ping; then it is closed. Does not run while it still receives our bytes.",
        "a peer that vanished does not keep its place; Centrifugo 8 s, Engine.IO and websockets 20 s",
        minimum=1.0,
    )
    message_deadline: float = deadline(
        20.0, "For the rest of an incomplete frame or fragmented message, in total; then the WebSocket is closed.",
        "half a message does not stay in memory; a line of 8 kbit/s sends the longest, 16 KiB, in 16 s",
    )
    flush_window: float = deadline(
        30.0, "The window over which --flush-rate is averaged; a peer below it is cut off after one or two.",
        "in less, honest slow readers would be cut off, because their kernels take bytes in bursts",
        minimum=1.0, maximum=3600.0,
    )
    presence_grace: float = deadline(
        10.0, "How long a user stays in the list of members after the last connection or poll has ended.",
        "a reload takes 2 s, a slow phone's next poll 5 s: they do not seem to leave; longer, and the list is stale",
        minimum=1.0, maximum=300.0,
    )
    close_deadline: float = deadline(
        2.0, "For the peer to finish the close, or to read a last answer; then the connection is closed without it.",
        "a peer that ignores the close does not keep its place; nginx 5 s",
    )
    drain_timeout: float = deadline(
        10.0, "From SIGTERM until all connections are closed; those left are cut off.",
        "the server stops in order before it is killed: Kubernetes waits for 30 s, systemd for 90 s",
    )

    max_head_bytes: int = size(
        16_384, "Request line and header fields; a longer head gets 431.",
        "bounds the memory of an incomplete head; h11 16 KiB, Apache 8 KiB a line, Kestrel 32 KiB",
        Unit.BYTES, 1024, _MIB,
    )
    max_head_fields: int = size(
        100, "Header fields of one request; more get 431.",
        "each field takes time to parse, however short it is; Apache and Kestrel 100, websockets 128",
        Unit.FIELDS, 16, 1000,
    )
    max_body_bytes: int = size(
        65_536, "A request body, decoded; a longer one gets 413.",
        "bounds the memory of one slow upload; a message is 8 KiB at most",
        Unit.BYTES, 1024, 64 * _MIB,
    )
    max_message_bytes: int = size(
        16_384, "One WebSocket message; a longer one ends the connection. The text of a chat message is 8 KiB at most.",
        "bounds the memory of an incomplete message; Discord 2,000 characters, Matrix and Centrifugo 64 KiB",
        Unit.BYTES, 256, 64 * _MIB,
    )
    max_fragments: int = size(
        64, "Frames of one fragmented message, empty ones included; more end the connection.",
        "empty frames take memory and pass limits of bytes: trio-websocket kept 200,001; websockets allows 4,096",
        Unit.FRAGMENTS, 1, 1_000_000,
    )
    max_rooms_per_connection: int = size(
        100, "Rooms that one connection may be in, or one poll may name; more are refused.",
        "bounds its memory (100 rooms take 14 KB) and its share of deliveries; Centrifugo 128 channels a client",
        Unit.ROOMS, 1, 10_000,
    )
    max_empty_rooms: int = size(
        4, "Rooms without any message that one connection may be in, or one poll may name; more are refused.",
        "names are free: a hundred made-up rooms would cost thirty times as much as their connection",
        Unit.ROOMS, 1, 10_000,
    )

    publish_rate: float = rate(
        20.0,
        "Messages a second of one user, with a burst of twice that; fifty times that of one network. More get 429.",
        "one user cannot flood the rooms and the disk; people reach 2, a paste is 40 at once; Synapse 0.2, Discord 1",
        Unit.MESSAGES_PER_SECOND, 0.01, 1e6, zero="no limit", sharing=Sharing.SHARED,
    )
    search_rate: float = rate(
        3.0, "Searches a second of one user, with a burst of twice that; ten times that of one network. More get 429.",
        "a search takes 10 ms of a core; a page that searches while its user types asks 3 times a second",
        Unit.REQUESTS_PER_SECOND, 0.01, 1e4, zero="no limit", sharing=Sharing.SHARED,
    )
    edit_window: float = rate(
        900.0,
        "Time in which authors may edit and delete a message; later it is refused. Moderators may always delete.",
        "what people answered to stays as it was, and slips can be mended; WhatsApp 15 min",
        Unit.SECONDS, 1, 1e10, zero="authors never may",
    )
    message_rate: float = rate(
        20.0,
        "Frames a second of one WebSocket besides accepted publishes, with a burst of ten times that and a join for"
        " each of --max-rooms-per-connection. More are refused.",
        "one client cannot keep the loop busy, and is closed after 64 refusals; one that reconnects joins 100 rooms",
        Unit.MESSAGES_PER_SECOND, 0.1, 10_000, zero="no limit",
    )
    request_rate: float = rate(
        50.0, "Requests a second on one connection, with a burst of twice that; faster ones wait for their turn.",
        "one connection cannot keep the loop busy: 50 is 1 in 250 of what one core answers",
        Unit.REQUESTS_PER_SECOND, 0.1, 10_000, zero="no limit",
    )
    flush_rate: int = rate(
        256, "What a peer must acknowledge of our bytes, averaged over --flush-window; a slower one is cut off.",
        "a peer that stopped reading does not hold buffers; a line of 2 kbit/s passes; Kestrel 240 B/s",
        Unit.BYTES_PER_SECOND, 1, _MIB,
    )

    ring_messages: int = memory(
        1024, "Latest messages of an active room kept encoded; a member further behind reads the log.",
        "spares the disk: 20 s of a room at 50 messages/s",
        Unit.MESSAGES, 16, _MIB,
    )
    ring_bytes: int = memory(
        _MIB, "Memory for those messages, a room; beyond it the oldest are dropped, and read from the log.",
        "a room with long messages does not fill the memory; 1,024 messages of 80 characters are 0.6 MiB",
        Unit.BYTES, 65_536, 1024 * _MIB,
    )
    all_rings_bytes: int = memory(
        256 * _MIB,
        "Memory for encoded messages of all rooms; beyond it the oldest of each are dropped, and read from the log.",
        "however many rooms are busy, they do not fill the memory; at most an eighth of it",
        Unit.BYTES, _MIB, _MIB * _MIB, sharing=Sharing.DIVIDED,
    )
    all_unfinished_bytes: int = memory(
        4 * _MIB, "Memory for incomplete heads, bodies, messages and TLS records; beyond it each network has a share.",
        "a crowd of slow senders does not fill the memory; 64 of the largest fit; the first 2 KiB of each do not count",
        Unit.BYTES, 65_536, _MIB * _MIB, sharing=Sharing.DIVIDED,
    )
    max_rooms: int = memory(
        100_000,
        "Rooms in memory, in use now or recently; beyond it rooms that nobody is in leave, or the new one gets 503.",
        "names are free, so strangers open any number; each takes 0.7 to 1.5 KB, together an eighth of the memory",
        Unit.ROOMS, 100, 100 * _MIB, sharing=Sharing.DIVIDED,
    )
    send_buffer: int = memory(
        65_536,
        "What the kernel keeps for a peer that does not read; then the server waits. SO_SNDBUF; Linux doubles it.",
        "the kernel would take up to 4 MiB for each slow reader; this allows 640 KB/s at 100 ms",
        Unit.BYTES, 4096, 16 * _MIB,
    )
    retain_messages: int = memory(
        100_000, "Records (messages, edits, deletions, reactions) kept in the log, a room; older ones are removed.",
        "bounds the disk: about 20 MB a room, or a year of 270 messages a day",
        Unit.MESSAGES, 1, 1e12, zero="keep all",
    )
    retain_age: float = memory(
        0.0, "Age at which messages are removed from the log.",
        "how long people's words are kept is the operator's decision",
        Unit.SECONDS, 1, 1e10, zero="keep all",
    )
    # fmt: on
    #: the policies of rooms by pattern, which only a file can hold; see settings/rooms.py
    rooms: tuple[tuple[str, RoomPolicy], ...] = ()

    @property
    def takes_tokens(self) -> bool:
        """Whether users can sign in with tokens."""
        return bool(self.token_key or self.token_jwks)

    def __post_init__(self) -> None:
        """Check the values of fields, alone and against each other, whatever their source."""
        for name, spec in SPECS.items():
            spec.check(flag_name(name), getattr(self, name))
        if self.workers > 1 and self.log.startswith("memory:"):
            raise ConfigError("workers", "needs a log that processes can share, like sqlite:PATH, not memory:")
        if self.proxy_protocol and not self.trusted_proxy:
            raise ConfigError("proxy-protocol", "needs --trusted-proxy: otherwise any peer could claim any address")
        if self.user_header and not self.trusted_proxy:
            raise ConfigError("user-header", "needs --trusted-proxy: otherwise any peer could claim to be any user")
        if self.guests is Guests.NONE and not (self.takes_tokens or self.user_header):
            raise ConfigError("guests", "none needs a way to sign in: --token-key, --token-jwks or --user-header")
        for name in ("token_issuer", "token_audience"):
            if getattr(self, name) and not self.takes_tokens:
                raise ConfigError(flag_name(name), "needs --token-key or --token-jwks beside it")
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("tls-cert", "tls-key") if self.tls_cert else ("tls-key", "tls-cert")
            raise ConfigError(given, f"needs --{missing} beside it")
        for name, least in ((name, least) for name, several in LOWER_BOUNDS.items() for least in several):
            value, bound, unit = getattr(self, name), getattr(self, least), SPECS[name].unit.value
            if value < bound:
                raise ConfigError(
                    flag_name(name), f"{plain(value)} {unit} is below --{flag_name(least)}, {plain(bound)} {unit}"
                )


SPECS: Mapping[str, Spec] = {
    field.name: field.metadata["spec"] for field in dataclasses.fields(Settings) if "spec" in field.metadata
}
TYPES: Mapping[str, Any] = get_type_hints(Settings)


def share_of(settings: Settings) -> Settings:
    """The settings of one worker of several: its share of the limits on all together; the same if there is only one."""
    divided = (name for name, spec in SPECS.items() if spec.sharing in (Sharing.DIVIDED, Sharing.SPREAD))
    shares: dict[str, Any] = {name: share(name, settings) for name in divided}
    return dataclasses.replace(settings, **shares)


def share(name: str, settings: Settings) -> int:
    """One worker's share of a divided limit; 0 keeps its meaning."""
    total, spec = int(getattr(settings, name)), SPECS[name]
    mean = total / settings.workers
    slack = SPREAD_DEVIATIONS * math.sqrt(mean) if spec.sharing is Sharing.SPREAD else 0.0
    floor: float = max(spec.minimum, *(getattr(settings, least) for least in LOWER_BOUNDS.get(name, ())), 0)
    return min(total, math.ceil(max(mean + slack, floor)))


def flag_name(field: str) -> str:
    """Return `head-deadline` for `head_deadline`."""
    return field.replace("_", "-")
