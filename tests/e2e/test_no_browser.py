"""A machine without a browser."""

import pytest

from tests.e2e import browser


def test_without_a_browser_its_driver_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("REQUIRE_BROWSER", raising=False)
    monkeypatch.delattr(browser, "sync_playwright")
    with pytest.raises(pytest.skip.Exception, match="no chromium"), browser.running_chromium():
        pass
