import math

from loadgen.output import wording
from loadgen.report import format as fmt
from tests.loadgen import reports


def test_numbers_have_three_digits() -> None:
    told = {
        0: "0", 5.0: "5", 1234567.0: "1,234,567", -7.713: "-7.71", 0.98765: "0.988", 12.345: "12.3", 1.5: "1.50",
        2100.7: "2,101", math.inf: "inf", math.nan: "nan",
    }  # fmt: skip
    assert list(map(fmt.number, told)) == list(told.values())


def test_sizes_are_in_binary_units_and_spans_in_readable_ones() -> None:
    sizes = {0: "0 B", 271: "271 B", 0.4: "0.4 B", 12.3: "12 B", 10_240: "10 KiB", -20_000_000: "-19.1 MiB"}
    assert [str(fmt.size(count)) for count in sizes] == list(sizes.values())
    assert str(fmt.size(2**40)) == "1,024 GiB"
    spans = {0.4: "0.4 s", 59.0: "59 s", 60: "1 min", 61.2: "1 min 1 s", 7_380: "2 h 3 min"}
    assert list(map(fmt.span, spans)) == list(spans.values())


def test_figures_carry_their_unit() -> None:
    for name, value, words in (
        ("attack_p99_ms", 9.127, "9.13 ms"),
        ("connects_per_s", 4988.0, "4,988 /s"),
        ("server_bytes_per_attacker", 271.0, "271 B"),
        ("server_cpu_us_per_attacker_s", 18.4, "18.4 µs"),
        ("p99_ratio", 4.961, "4.96\N{MULTIPLICATION SIGN}"),
        ("attack_p99_ms", 99.96, "100.0 ms"),
        ("success_percent", 100.0, "100%"),
        ("success_percent", 99.999, "99.99%"),
        ("baseline_steal_percent", 2.07, "2.07%"),
        ("head_fields", 100.0, "100 fields"),
        ("of_a_later_loadgen_s", 2.0, "2"),
    ):
        assert str(wording.figure(name, value)) == words


def test_a_rate_says_100_only_if_nothing_failed() -> None:
    assert fmt.success_percent(1_000_000, {}) == "100"
    assert fmt.success_percent(999_999, {"late": 1}) == "99.99"
    assert fmt.success_percent(1, {"late": 2}) == "33.3"
    assert fmt.success_percent(0, {}) == ""


def test_groups_keep_order_and_leave_out_what_was_not_measured() -> None:
    groups = wording.grouped(reports.attack())
    assert list(groups) == ["victims", "honest slow clients", "attackers", "cost", "generator"]
    assert list(groups["victims"])[:3] == ["success_percent", "attack_failed", "baseline_p50_ms"]
    assert "first_failure_s" not in groups["victims"]
    assert {"baseline_steal_percent", "steal_percent"} <= set(groups["generator"]), "of the machine, not of the victims"
    assert wording.grouped(reports.interrupted()) == {}


def test_parts_are_told_apart() -> None:
    names = wording.part_names(reports.comparison().parts)
    assert names == ["slow-head, ours, 1", "slow-head, threaded, 1", "slow-head, ours, 2", "slow-head, threaded, 2"]
    assert wording.part_names([reports.attack(), reports.run()]) == ["attack", "run"]
    parts = [reports.attack(), reports.attack(), reports.run()]
    parts[1].target = "http://127.0.0.1:9000"
    assert wording.part_names(parts) == ["attack, http://127.0.0.1:8000", "attack, http://127.0.0.1:9000", "run"]


def test_a_replay_has_the_seed_once() -> None:
    assert wording.replay(reports.attack("slow-read")) == reports.attack("slow-read").arguments
    assert wording.replay(reports.interrupted()) == "loadgen attack http://127.0.0.1:8000 --seed 1"
    assert "--seed" not in wording.replay(reports.fingerprint()), "nothing was left to chance"


def test_figures_of_other_commands_stay_together() -> None:
    [(title, group)] = wording.grouped(reports.scorecard()).items()
    assert (title, list(group)) == ("scorecard", ["attacks", "held", "fell_short", "invalid"])
    [(title, group)] = wording.grouped(reports.fingerprint()).items()
    assert (title, list(group)) == ("fingerprint", ["head_deadline_s", "head_bytes", "limits_good"])


def test_nothing_steers_a_terminal_or_breaks_xml_and_plain_words_stay() -> None:
    for text in ("\x1b[31m", "\x00", "\x9b", "\u202e", "\u2066", "\ud800", "\u2028", "\ufffe", "\n"):
        assert fmt.printable(f"a{text}b") == f"a{text.replace(text[0], chr(0xFFFD))}b"
    for text in ("408", "Grüße, 世界 \N{OTTER}"):
        assert fmt.printable(text) == text
    assert fmt.printable("a\N{NO-BREAK SPACE}b") == "a\N{NO-BREAK SPACE}b"


def test_one_is_no_plural() -> None:
    assert [fmt.several(number, "round") for number in (0, 1, 2000)] == ["0 rounds", "1 round", "2,000 rounds"]
