"""Fixtures of the terminal client's tests: those of the library's."""

from tests.client.conftest import _nobody_yet, server

__all__ = ["_nobody_yet", "server"]
