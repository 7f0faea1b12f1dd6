"""How things look: columns, folding, the bar, and texts that would upset a terminal."""

import io

import pytest

from mapsto.cli import progress, show
from mapsto.cli.progress import Bar, facts, span
from mapsto.runs.events import Climbed, Found, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(lines, width=80):
    return list(show.fold(show.columns(lines), width, "  ", "  "))


def test_columns_line_up_in_cells_not_in_characters():
    assert shown(["a\tone", "bbb\ttwo", "中文\tthree"]) == ["  a     one", "  bbb   two", "  中文  three"]


def test_the_last_column_folds_under_itself():
    got = shown(["name\t" + "word " * 20], width=40)
    assert len(got) == 4
    assert all(len(line) <= 40 for line in got)
    assert all(line.startswith("        word") for line in got[1:])
    assert " ".join(got).split() == ["name"] + ["word"] * 20


def test_a_marked_line_folds_under_its_first_letter():
    assert shown(["! " + "word " * 5], width=20) == ["  ! word word word", "    word word"]


def test_a_word_longer_than_the_screen_is_kept_whole():
    assert shown(["x\t" + "y" * 100], width=40) == ["  x  " + "y" * 100]


def test_rows_of_unequal_length_and_empty_cells():
    assert shown(["\tscore", "model\t0.9", "a note", ""]) == ["         score", "  model  0.9", "  a note", ""]


def test_nothing_from_the_data_moves_the_cursor():
    assert show.one_line("a\x1b[2Jb\rc\nd\u202e\ud800") == "a\\x1b[2Jb c d\\u202e\\ud800"


def test_colours_only_for_terminals_that_want_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    plain, tty, without = io.StringIO(), Terminal(), Terminal()
    show.Screen(plain).section("Title", ("a",))
    show.Screen(tty).section("Title", ("a",))
    monkeypatch.setenv("NO_COLOR", "1")
    show.Screen(without).section("Title", ("a",))
    assert plain.getvalue() == without.getvalue() == "\nTitle\n  a\n"
    assert "\x1b[1mTitle\x1b[0m" in tty.getvalue()


def test_the_rungs_line_up_though_they_come_one_by_one():
    out = io.StringIO()
    screen = show.Screen(out)
    for rung in ("frozen", "zero-shot"):
        screen.show(Climbed(rung, True, f"{rung}\t0.9\tin 3 s"))
    first, second = out.getvalue().splitlines()[-2:]
    assert first.index("0.9") == second.index("0.9")
    assert out.getvalue().count("The ladder") == 1


def test_events_are_shown_even_when_a_run_fails_midway(capsys):
    def stream():
        yield Found(("rows\t3",))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        show.events(stream())
    assert "rows  3" in capsys.readouterr().out


def test_a_document_has_no_number_that_json_lacks(capsys):
    show.document({"a": float("inf"), "b": [float("nan"), 1.5], 3: ("x",)})
    assert capsys.readouterr().out.split() == [
        "{",
        '"a":',
        "null,",
        '"b":',
        "[",
        "null,",
        "1.5",
        "],",
        '"3":',
        "[",
        '"x"',
        "]",
        "}",
    ]


def test_facts_of_progress():
    assert facts(Progress("full", 640, 1000, 0.81234, 812.3, "rows", 0.44)) == (
        "640/1,000 rows · loss 0.8123 · 812 rows/s · 0.4 s left"
    )
    assert facts(Progress("full", 3, 20, None, 3.33, "steps")) == "3/20 steps · 3.3 steps/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (119.4, "119 s"), (119.6, "2 min 00 s"),
                          (200, "3 min 20 s"), (7199, "119 min 59 s"), (7500, "2 h 05 min")],
)  # fmt: skip
def test_spans_of_time(seconds, text):
    assert span(seconds) == text


def test_the_bar_draws_on_a_terminal_and_leaves_nothing_behind(monkeypatch):
    out = Terminal()
    with Bar(out) as bar:
        for done in (0, 50, 100):
            bar.update(Progress("frozen", done, 100, 0.5))
        bar.update(Progress("full", 1, 7, 0.5, unit="steps"))
    drawn = out.getvalue()
    assert "frozen" in drawn
    assert "1/7 steps" in drawn
    assert drawn.rsplit("\r", 2)[-2].strip() == "" == drawn.rsplit("\r", 1)[-1].strip()


def test_elsewhere_it_says_a_line_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    bar = Bar(out)
    for second in range(200):
        now[0] = float(second)
        bar.update(Progress("full", second, 200))
    assert out.getvalue().splitlines() == [
        f"full: {n}/200 rows · 1.0 rows/s · {span(200 - n)} left" for n in (20, 60, 140)
    ]
