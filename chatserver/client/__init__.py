"""The Python client: be in rooms whatever happens to the connection; lose nothing, get nothing twice.

`connect` (link.py) is the way in; session.py holds the promise, without I/O; terminal.py is
`chatserver chat`. Nothing in the server imports any of it.
"""

from chatserver.client.link import Client, RejectedError, connect
from chatserver.client.stream import BadUrlError

__all__ = ["BadUrlError", "Client", "RejectedError", "connect"]
