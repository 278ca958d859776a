"""The `Date` of an answer: where the edge reads the wall clock, since protocol/ reads none."""

from time import time

from chatserver.protocol.response import date_line


def date_now() -> bytes:
    """The header line for an answer that is made now."""
    return date_line(int(time()))
