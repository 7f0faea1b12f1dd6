"""Bad text, models and prompts on the command line of pretraining: exit code 2, one line, nothing written, at once.

What can be wrong with files of text as such is in `test_data_bad_corpus.py`.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import SENTENCES, written

from mapsto.cli.main import main
from mapsto.core import config
from mapsto.runs import pretrain
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Planned

TINY = "--width 32 --depth 1 --context 32 --batch 256 --duplicates exact --budget 2steps"
LEARN = f"pretrain text.txt --document line {TINY}"
FILES = {
    "text.txt": "\n".join(SENTENCES).encode(),
    "empty.txt": b"",
    "blank.txt": b" \n\t\n\n",
    "word.txt": b"word",
    "words.txt": b"one two",
    "line.txt": b"endless words without a line end " * 1500,
    "long.txt": b"endless words without a line end " * 30_000,
    "letters.txt": b"abcdefgh" * 125_000,
    "binary.txt": bytes(range(256)) * 500,
    "koi8.txt": "Текст по-русски. ".encode("koi8-r") * 99 + b"\x81\x8d",
    "broken.txt.gz": gzip.compress(os.urandom(10_000))[:5000],
    "same.txt": b"the same line\n" * 5000,
}
Case = tuple[str, str]  # the words of the command, what the line says
CASES: list[Case] = [
    # text
    ("pretrain", "data is missing"),
    ("pretrain txet.txt", "did you mean 'text.txt'"),
    ("pretrain empty.txt", "no document is left"),
    ("pretrain empty.txt --objective causal", "no document is left"),
    ("pretrain empty.txt --objective skipgram", "no document is left"),
    ("pretrain blank.txt", "no document is left"),
    ("pretrain word.txt", "but the corpus has"),
    ("pretrain word.txt --objective causal --tokenizer characters", "but the corpus has 4;"),
    ("pretrain word.txt --objective skipgram", ""),
    ("pretrain words.txt --document line --objective cbow", ""),
    ("pretrain line.txt", "nothing can be held out"),
    ("pretrain line.txt --objective causal", "nothing can be held out"),
    ("pretrain line.txt --objective skipgram", "nothing can be held out"),
    ("pretrain long.txt --objective causal --size base", "the corpus has"),
    ("pretrain letters.txt", "the corpus has"),
    ("pretrain letters.txt --objective causal --size base", "the corpus has"),
    ("pretrain letters.txt --tokenizer unigram --size base", "the corpus has"),
    ("pretrain letters.txt --objective skipgram", ""),
    ("pretrain binary.txt", "binary.txt"),
    ("pretrain koi8.txt", "save it as UTF-8"),
    ("pretrain broken.txt.gz", "broken.txt.gz: damaged"),
    ("pretrain same.txt --document line", "the corpus has"),
    ("pretrain same.txt --document line --duplicates keep", "no two that differ"),
    ("pretrain text.txt --document line --size base", "give more text or a smaller size"),
    (f"{LEARN} --batch 4096", "but the corpus has"),
    (f"{LEARN} --vocabulary 5000", "vocabulary: asked for 5,000, but the texts allow only"),
    (f"{LEARN} --vocabulary 5000 --objective causal", "vocabulary: asked for 5,000, but the texts allow only"),
    (f"{LEARN} --vocabulary 5000 --tokenizer characters", "vocabulary: asked for 5,000, but the texts allow only"),
    (f"{LEARN} --out changed", "changed since this run was planned; choose another out"),
    (f"{LEARN} --out changed --seed 1", "holds an unfinished run with seed 0 instead of 1"),
    (f"{LEARN} --out enc --seed 1", "holds the model of a run with"),
    (f"{LEARN} --out text.txt", "already exists and is no model"),
    (f"{LEARN} --out text.txt/out", "a part of that path is a file"),
    # what does not go together
    (f"{LEARN} --objective permuted --encoder convnet", "take transformer"),
    (f"{LEARN} --objective denoise --encoder recurrent", "take transformer"),
    (f"{LEARN} --objective electra --encoder resnet", "take one of 'transformer', 'recurrent', 'convnet'"),
    (f"{LEARN} --objective electra --nsp", "leave one of them out"),
    ("pretrain text.txt --document line --from enc --objective electra --batch 256", "goes on only from what it made itself"),
    ("pretrain text.txt --document line --from gpt --objective electra --batch 256", "demands 'full' attention"),
    (f"{LEARN} --objective causal --nsp", "leave one of them out"),
    (f"{LEARN} --context 512", "raise one or lower the other"),
    ("pretrain text.txt --document line --from gpt --batch 256", "use --objective causal"),
    ("pretrain text.txt --document line --from enc --objective causal --batch 256", "use --objective masked"),
    ("pretrain text.txt --document line --from enc --context 64 --batch 256", "more than the 32 positions"),
    ("pretrain text.txt --document line --from enc --tokenizer bpe", "from the model that is gone on from"),
    ("pretrain text.txt --document line --from swapped --batch 256", "tokenizer"),
    ("pretrain text.txt --document line --from stranger --batch 256", "tokenizer"),
    ("pretrain text.txt --document line --from nowhere", "nowhere"),
    # what is asked of a model
    ("generate gpt", "PROMPT"),
    ("generate gpt LONG", "but the model reads at most 32"),
    ("generate enc the", "does not write on"),
    ("generate nowhere the", "found nothing"),
    ("generate gpt the --top-p 2", "top_p"),
    ("fill enc the", "holds no mask"),
    ("fill gpt the", "fills nothing in"),
    ("neighbours enc the", "neighbours are of word vectors"),
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAPSTO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("MAPSTO_PRECISION", "fp32")
        patch.chdir(place)
        for name, content in FILES.items():
            (place / name).write_bytes(content)
        assert main(f"{LEARN} --recipe classic --out enc".split()) == 0
        assert main(f"{LEARN} --objective causal --out gpt".split()) == 0
        planned(place)
        for name in ("swapped", "stranger"):
            shutil.copytree("enc", name)
            shutil.copy("gpt/tokenizer.json", f"{name}/tokenizer.json")
        for part in ("mapsto.json", "manifest.json"):
            Path("stranger", part).unlink()
    return place


def planned(place: Path) -> None:
    """An unfinished run at `changed` of a text that was another one then."""
    Path("other.txt").write_text("\n".join(SENTENCES[1:]))
    values = {"data": ["other.txt"], "document": "line", "width": 32, "depth": 1, "context": 32, "batch": 256, "duplicates": "exact",
              "budget": "2 steps", "out": "changed"}  # fmt: skip
    stream = pretrain.run(config.fill(PretrainConfig, values, "test"))
    while not isinstance(next(stream), Planned):
        pass
    stream.close()
    record = Path("changed.run/run.yaml")
    record.write_text(record.read_text().replace("other.txt", "text.txt"))
    Path("other.txt").unlink()


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAPSTO_PRECISION", "fp32")
    monkeypatch.chdir(place)


def there(place: Path) -> list[str]:
    return sorted(part.relative_to(place).as_posix() for part in place.rglob("*"))


@pytest.mark.parametrize(("words", "said"), CASES, ids=[words for words, _ in CASES])
def test_one_line_exit_two_nothing_written(
    words: str, said: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in words or not words.startswith("pretrain") else ["--out", "out"]
    before = there(place)
    start = time.process_time()
    code = main([" ".join(SENTENCES) if word == "LONG" else word for word in words.split()] + out)
    seconds = time.process_time() - start
    told = capsys.readouterr()
    assert code == 2, told
    lines = [line for line in told.err.splitlines() if line.startswith("mapsto: error:")]
    assert len(lines) == 1, told.err
    assert said in lines[0]
    assert "Traceback" not in told.err + told.out
    assert there(place) == before
    assert seconds < 4  # of processor time, the first use of transformers included


def test_an_empty_prompt(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "gpt", ""]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "prompt 1 is empty" in told.err


@pytest.mark.parametrize("objective", ["masked", "skipgram"])
def test_a_disk_that_is_full_while_the_store_is_built(objective: str, place: Path, tmp_path: Path) -> None:
    code = """
import resource, sys
from mapsto.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))
sys.exit(main(sys.argv[1:]))
"""
    text = written(tmp_path / "text.jsonl", (f"{s} {i}" for i in range(20) for s in SENTENCES))
    words = ["pretrain", text, "--objective", objective, "--out", str(tmp_path / "out")]
    words += ["--duplicates", "exact"] + ["--tokenizer", "characters"] * (objective == "masked")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mapsto: error: cannot write")
    assert "the file grew past" in line
    assert not [name for name in there(tmp_path) if ".part" in name or "tokens.bin" in name or name.startswith("out")]
