"""What may be wrong with a planted server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Plant:
    """What is wrong with the server; by default nothing but that it never times anybody out."""

    head_deadline: float | None = None  # close connections that are not a WebSocket, held or answered by then
    says_408: bool = False  # ... with an answer
    delay: float = 0.0  # before a publish is acknowledged and told
    drop_every: int = 0  # acknowledge every n-th publish and tell nobody
    close_members_after: float | None = None  # throw members out
    refuse: bool = False  # answer everything 503
    pings_every: float | None = None
    close_after_poll: bool = False  # answer polls with `Connection: close`
    leak_bytes: int = 0  # per connection, kept for ever
    consent: bytes | None = None
    no_page: bool = False  # answer `GET /` 404
    stalls_every: float | None = None  # sleep for `stall` again and again
    send_buffer: int = 0  # SO_SNDBUF; a peer whose buffer is full is thrown out
    stall: float = 0.0  # sleep that long, and hold up everybody, ...
    stall_on_text: str | None = None  # ... when the first published text has this in it
    dies_after_texts: int | None = None  # stop serving when so many were published
    turns_away_after: int | None = None  # answer 503 to connections after so many

    # what goes wrong once so many are connected, and stays wrong: an attack is there
    crowd: int = 25
    locks_out: bool = False  # cut everybody, and whoever comes afterwards
    no_newcomers: bool = False  # serve those who are in, close on those who come
    fails_one: bool = False  # answer one message with an error
    dies: bool = False  # end the process
    forgets: bool = False  # lose half of what was acknowledged
    leaks_descriptors: bool = False  # one for each that comes
    one_waits: float = 0.0  # let one member wait so long for its acknowledgements
    slow_afterwards: float = 0.0  # when the crowd has gone, be so late
    takes_anything: bool = False  # answer malformed requests 200

    deaf_every: int = 0  # tell every n-th message to nobody but its author
    echo_delay: float = 0.0  # acknowledge at once, and tell so much later
    slow_when_crowded: float = 0.0  # be so late while an attack is there
    per_address: int = 0  # close on those who come from an address that has so many
    unanswered_room: str = ""  # never answer those who join it
