"""The colours can be told from their background, by the rule of WCAG 2: 4.5 to 1 for words, 3 to 1 for lines."""

import re
from importlib.resources import files

import pytest

STYLE = files("loadgen.output.page").joinpath("style.css").read_text(encoding="utf-8")
WORDS = ("ink", "soft", "good", "bad", "doubt", "s1", "s2", "s3", "s4", "s5", "s6", "rest")
GROUNDS = {"good": "good-tint", "bad": "bad-tint", "doubt": "doubt-tint"}


def _palettes() -> tuple[dict[str, str], dict[str, str]]:
    found = re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{3,6}), (#[0-9a-f]{3,6})\);", STYLE)
    return {name: light for name, light, _ in found}, {name: dark for name, _, dark in found}


def _luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", _palettes(), ids=["light", "dark"])
def test_words_and_lines_stand_out(palette: dict[str, str]) -> None:
    for word in WORDS:
        for ground in ("paper", "card", GROUNDS.get(word, "paper")):
            assert _contrast(palette[word], palette[ground]) >= 4.5, (word, ground)
    for tint in GROUNDS.values():
        assert _contrast(palette["ink"], palette[tint]) >= 7, tint
        assert _contrast(palette["soft"], palette[tint]) >= 4.5, tint


def test_the_palettes_have_every_colour() -> None:
    light, _ = _palettes()
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", STYLE)) <= {*light, "tone", "tint", "colour"}
