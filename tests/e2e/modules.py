"""Runs modules of the page that need no DOM, imported by a browser from the server."""

from typing import Any

from playwright.sync_api import Page


def run(page: Page, module: str, body: str, argument: object = None) -> Any:
    """The value of `body`, a function's body, with the module's exports as `m` and the argument as `a`."""
    return page.evaluate(f"async (a) => {{ const m = await import('/{module}'); {body} }}", argument)
