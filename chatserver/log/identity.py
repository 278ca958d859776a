"""The identity of a new log.

Owns: how an epoch and a secret are made. May not: keep them; an engine keeps them where it keeps its
messages.
"""

import secrets
import string

from chatserver.log.interface import Identity

EPOCH_LENGTH = 6  # of 36 letters: 2 thousand million, so two lives of one log never meet under one name
SECRET_BYTES = 16
_LETTERS = string.ascii_lowercase + string.digits


def new_identity() -> Identity:
    """An epoch and a secret that nobody had before."""
    epoch = "".join(secrets.choice(_LETTERS) for _ in range(EPOCH_LENGTH))
    return Identity(epoch=epoch, secret=secrets.token_bytes(SECRET_BYTES))
