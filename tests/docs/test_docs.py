"""Documentation that cannot rot: Python blocks run, commands parse (cheap ones run), both READMEs say the same.

A block right after `<!-- no-run: reason -->` is left out. The Python blocks of one page run as one program, in an empty
folder that holds the small files of `files` below; those of the Chinese README are the English ones, and run once.
"""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mapsto.cli import parser
from mapsto.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- no-run: [^>]+-->\s*)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S)
CHEAP = {"list", "doctor"}


def blocks(page, kind):
    found = BLOCK.finditer(page.read_text("utf-8"))
    return [b["text"] for b in found if b["kind"] == kind and not b["skip"]]


def commands(page):
    """Every `mapsto …` command of a page's shell blocks, continuation lines joined, comments dropped."""
    for text in (b["text"] for b in BLOCK.finditer(page.read_text("utf-8")) if b["kind"] == "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("mapsto "):
                yield line


def name(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with the files that the pages name: 8 of BANKING77's intents, and small tables for the other kinds."""
    folder = tmp_path_factory.mktemp("pages")
    few = ("card_arrival", "exchange_rate", "lost_or_stolen_card", "pin_blocked")
    for part in ("train", "test"):
        with open(ROOT / "examples" / "banking77" / f"{part}.csv", encoding="utf-8", newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if row["label"] in few]
        write(folder / f"{part}.csv", rows[::12] if part == "train" else rows[::8])
    pairs = [{"first": f"a cat number {i} sat", "second": f"a {'cat' if i % 2 else 'dog'} number {i} {w}",
              "score": f"{(i % 2) * 3 + len(w) / 4:.1f}"} for i in range(40) for w in ("sat", "slept", "ran")]  # fmt: skip
    write(folder / "pairs.csv", pairs[:90])
    write(folder / "pairs-test.csv", pairs[90:])
    return folder


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.DictWriter(handle, rows[0])
        table.writeheader()
        table.writerows(rows)


PROGRAMS = [p for p in PAGES if blocks(p, "python") and p.name != "README.zh-CN.md"]
QUICK = ("README.md", "classify.md", "resume.md")  # the others wait for `make test-all`


@pytest.mark.parametrize(
    "page",
    [p if p.name in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PROGRAMS],
    ids=map(name, PROGRAMS),
)
def test_python_blocks_run(page, files):
    program = "\n".join(blocks(page, "python"))
    env = {**os.environ, "PYTHONWARNINGS": "error::SyntaxWarning"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=files, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page):
    for line in commands(page):
        request = parser.read(shlex.split(line, comments=True)[1:])
        assert request.verb in parser.VERBS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_cheap_commands_run(page, capsys):
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        if words[0] in CHEAP:
            assert main(words) == 0, line
            assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_both_readmes_hold_the_same_commands_and_code():
    def fenced(page):
        found = BLOCK.finditer((ROOT / page).read_text("utf-8"))
        return [(b["kind"], re.sub(r"\s*#.*", "", b["text"]) if b["kind"] != "text" else "") for b in found]

    english, chinese = fenced("README.md"), fenced("README.zh-CN.md")
    assert english == chinese
    assert len(english) >= 4
    inline = [sorted(set(re.findall(r"`((?:make|mapsto) [^`]+)`", (ROOT / p).read_text("utf-8"))))
              for p in ("README.md", "README.zh-CN.md")]  # fmt: skip
    assert inline[0] == inline[1]


def test_the_reference_is_what_the_menus_say():
    done = subprocess.run([sys.executable, ROOT / "docs" / "reference.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_has_its_place_in_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"`{verb}`" in text for verb in parser.VERBS)


def test_make_quickstart_is_the_readmes_command():
    made = (ROOT / "Makefile").read_text("utf-8")
    first = next(commands(ROOT / "README.md"))
    assert f"$(BIN)/{first}\n" in made
    assert "make test" in (ROOT / ".ci" / "run").read_text("utf-8")
