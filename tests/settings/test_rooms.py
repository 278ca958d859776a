"""A file with rooms, and the errors for malformed ones."""

import re
from pathlib import Path

from chatserver.settings.rooms import MAX_PATTERNS, Audience, RoomPolicy
from chatserver.settings.sources import load_settings
from chatserver.settings.spec import ConfigError
from tests.support.errors import error_of


def load(tmp_path: Path, text: str) -> tuple[tuple[str, RoomPolicy], ...]:
    file = tmp_path / "chat.toml"
    file.write_text(text)
    return load_settings({}, {}, file).rooms


def test_patterns_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """
        port = 9000
        [rooms."staff-*"]
        read = "granted"
        write = "moderators"
        list = true
        [rooms.lobby]
        slow_mode = 5
        retain_count = 0
        retain_age = 3600
    """
    assert load(tmp_path, text) == (
        ("staff-*", RoomPolicy(Audience.GRANTED, Audience.MODERATORS, True)),
        ("lobby", RoomPolicy(slow_mode=5.0, retain_count=0, retain_age=3600.0)),
    )
    assert load(tmp_path, "port = 9000") == ()


def test_a_malformed_entry_is_refused_by_name(tmp_path: Path) -> None:
    for text, complaint in (
        ("rooms = 3", "table for each pattern"),
        ('[rooms]\n"Staff" = {}', "Staff.*a pattern is a room's name"),
        ('[rooms."a b"]', "a pattern is a room's name"),
        ('[rooms.""]', "a pattern is a room's name"),
        ('[rooms."staff-[0-9"]', "a pattern is a room's name"),  # as it stands it is the text `[0-9`
        ('[rooms."staff]"]', "a pattern is a room's name"),
        ('[rooms."staff-[]"]', "a pattern is a room's name"),
        ('[rooms."staff!"]', "a pattern is a room's name"),
        ('[rooms.a]\nraed = "granted"', "unknown field `raed`"),
        ('[rooms.a]\nread = "nobody"', r"none of everyone, signed-in, granted, moderators: 'nobody'.*\$\.read"),
        ("[rooms.a]\nslow_mode = -1", r"\$\.slow_mode"),
        ("[rooms.a]\nslow_mode = nan", r"\$\.slow_mode"),
        ("[rooms.a]\nlist = 1", r"\$\.list"),
        ("[rooms.a]\nretain_count = 1.5", r"\$\.retain_count"),
        ("[rooms.a]\nretain_age = -1", r"\$\.retain_age"),
        ("\n".join(f"[rooms.a{number}]" for number in range(MAX_PATTERNS + 1)), f"limit {MAX_PATTERNS}"),
    ):
        said = str(error_of(ConfigError, load, tmp_path, text))
        assert re.search(f"(?s)--config: .*chat.toml.*{complaint}", said), (text, said)
