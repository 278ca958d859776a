"""Shared state that may be lost, on N Valkey servers: `--shared valkey://HOST:PORT[,HOST:PORT…]`.

Owns: the servers, which of them keeps a key, and the calls. May not: import modules of ours outside this folder, except
the settings and meters.py; or keep data that must not be lost. Any of it may be gone at any moment, and no caller
waits for it.

    shards.py    which shard keeps a key, and the messages to all other processes
    valkey.py    one server: a connection that is kept up, calls with a deadline
    limits.py    rate limits as scripts
"""

from chatserver.settings import forms
from chatserver.settings.spec import ConfigError
from chatserver.shared.shards import Shards


def check_client() -> None:
    """Check that the client library, an extra, is installed. Raises ConfigError."""
    try:
        import chatserver.shared.valkey  # noqa: F401, PLC0415
    except ImportError as error:
        sentence = f"needs {error.name}, which is not installed: pip install '.[valkey]' in the source tree"
        raise ConfigError("shared", sentence) from error


def open_shards(url: str, chat: str) -> Shards:
    """Make the shards of --shared, for the processes of one chat; `run` connects them."""
    from chatserver.shared.valkey import ValkeyShard  # noqa: PLC0415  (an extra, and 0.3 s)

    found = forms.shards(url)
    shards = [ValkeyShard(host, port, user=found.user, password=found.password) for host, port in found.addresses]
    return Shards(shards, chat)
