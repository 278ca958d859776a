"""The first bytes of a connection, as functions that a persona takes for its `opening`."""

from collections.abc import Callable

from loadgen.clients.client import Client
from loadgen.clients.cohort import Place
from loadgen.net import wire

Opening = Callable[[Client], bytes]


def nothing(client: Client) -> bytes:
    return b""


def getting(*fields: str, lacks: int = 0) -> Opening:
    """Ask for the target's page, with further fields; `lacks` bytes are cut off the end of the head."""

    def opening(client: Client) -> bytes:
        place = client.cohort.place
        head = place.request("GET", place.path, *fields)
        return head[: len(head) - lacks]

    return opening


page = getting()

#: A head without the blank line that ends it, so that more fields may follow.
open_head = getting(lacks=2)


def posting(*fields: str) -> Opening:
    return lambda client: post_head(client.cohort.place, client.room, *fields)


def post(place: Place, room: str, body: bytes, *fields: str, content_type: str = "text/plain") -> bytes:
    return post_head(place, room, f"Content-Length: {len(body)}", *fields, content_type=content_type) + body


def post_head(place: Place, room: str, *fields: str, content_type: str = "text/plain") -> bytes:
    """Encode the head of a publish by HTTP; `fields` say how its body is framed."""
    return place.request("POST", place.post_path(room), f"Content-Type: {content_type}", *fields)


def event_stream(client: Client, *fields: str) -> bytes:
    place = client.cohort.place
    return place.request("GET", f"/rooms/{client.room}/events", "Accept: text/event-stream", *fields)


def held_poll(client: Client) -> bytes:
    """Ask for a long-poll in a room without messages, so that it is held for all of its wait."""
    place = client.cohort.place
    room = f"{client.room[:57]}.silent"  # names have up to 64 characters
    return place.request("GET", f"/rooms/{room}/messages?wait={place.poll_wait_seconds:g}")


def upgrading(*fields: str) -> Opening:
    def opening(client: Client) -> bytes:
        place = client.cohort.place
        return wire.upgrade_request(place.websocket_path, place.host, *place.endpoint.upgrade_fields, *fields)

    return opening


upgrade = upgrading()
