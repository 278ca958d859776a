"""The head of a request whose body is the point. No persona itself."""

from loadgen import wire
from loadgen.client import Place


def post_head(place: Place, room: str, *fields: str, content_type: str = "text/plain") -> bytes:
    """Encode the head of a publish by HTTP; `fields` say how its body is framed."""
    return wire.request("POST", place.post_path.format(room=room), place.host, f"Content-Type: {content_type}", *fields)
