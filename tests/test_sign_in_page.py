"""The programs in docs/sign-in.md make tokens that the server accepts."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from chatserver.api.keys import KeyRing
from chatserver.chat.principal import User
from tests.support.peers import PATIENCE
from tests.support.tokens import verified
from tests.test_docs import DOCS, fences

PAGE = DOCS / "sign-in.md"


def same(thing: Any) -> Any:
    return thing


def csrf_exempt(view: Any) -> Any:
    view.csrf_exempt = True
    return view


class FastApi:
    """The part of FastAPI that the page uses."""

    def post(self, path: str) -> Any:
        return same


STUBS: dict[str, dict[str, Any]] = {
    "django.contrib.auth.decorators": {"login_required": same},
    "django.views.decorators.csrf": {"csrf_exempt": csrf_exempt},
    "django.http": {"JsonResponse": same},
    "django.views.decorators.http": {"require_POST": same},
    "fastapi": {"Depends": same, "FastAPI": FastApi},
    "myapp": {"User": object, "current_user": None},
}
#: A signed-in user as a web framework represents it.
ANN = SimpleNamespace(pk=7, id=7, name="Ann", get_username=lambda: "Ann")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file `chat.key` in the current directory, as the server makes it."""
    monkeypatch.chdir(tmp_path)
    KeyRing(["chat.key"])
    return "chat.key"


def run(program: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The view that a Python program defines."""
    for name, contents in STUBS.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    names: dict[str, Any] = {}
    exec(program, names)
    return names["chat_token"]


def test_the_python_programs_issue_valid_tokens(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [text for _, text in fences(PAGE, "python")]
    assert len(programs) == 2
    for program, argument in zip(programs, (SimpleNamespace(user=ANN), ANN), strict=True):
        assert verified(run(program, monkeypatch)(argument)["token"], key).face == User("u_7", "Ann")


@pytest.mark.usefixtures("key")
def test_django_lets_the_request_of_the_page_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django's middleware answered it with 403, since the page sends no CSRF token."""
    [program] = [text for _, text in fences(PAGE, "python") if "django" in text]
    [fetch] = [text for _, text in fences(PAGE, "js") if "fetch('/chat-token'" in text]
    assert "X-CSRFToken" in fetch or getattr(run(program, monkeypatch), "csrf_exempt", False)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on this machine")
def test_the_node_program_issues_valid_tokens(key: str) -> None:
    app = """
        export const requireLogin = null;
        export const app = { post: (path, login, handle) =>
          handle({ user: { id: 7, name: 'Ann' } }, { json: (body) => console.log(body.token) }) };
    """
    Path("app.js").write_text(app)
    Path("package.json").write_text('{"type": "module"}')
    [program] = [text for _, text in fences(PAGE, "js") if "createHmac" in text]
    Path("sign-in.js").write_text(program)
    ended = subprocess.run(["node", "sign-in.js"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert verified(ended.stdout.strip(), key).face == User("u_7", "Ann")
