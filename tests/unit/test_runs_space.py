"""A space of texts and pictures: learnt, judged, saved, searched, asked for names; stopped, resumed, repeated; and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pairs
import pytest
import torch
from runs import same, stop

import mapsto
from mapsto import finding
from mapsto.cli.main import main
from mapsto.core import config
from mapsto.core.errors import ConfigError, DataError, ModelError
from mapsto.engine import optimise
from mapsto.media import pictures
from mapsto.runs import bridges, pretrain, towers
from mapsto.runs.config import PretrainConfig
from mapsto.runs.events import Found, Judged, Planned, Progress
from mapsto.runs.pairs import read as pairs_of
from mapsto.runs.search import nearest

SMALL: dict[str, Any] = {
    "objective": "align",
    "width": 32,
    "batch": 32,
    "budget": "150 steps",
    "held": 0.25,
    "rate": 3e-3,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, sources, and a space that was learnt from them."""
    root = tmp_path_factory.mktemp("space")
    pairs.sources(root)
    pairs.table(root / "pairs.parquet")
    pairs.table(root / "other.parquet", listed=False, seed=1)
    pairs.folder(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAPSTO_CACHE", str(root / "cache"))
        patch.setenv("MAPSTO_PRECISION", "fp32")
        seen: list[Any] = []
        mapsto.pretrain(root / "pairs.parquet", watch=seen.append, out=str(root / "net"), **asked(root))
    (root / "events.txt").write_text(
        "\n".join(line for e in seen if isinstance(e, (Found, Planned, Judged)) for line in e.lines)
    )
    (root / "table.json").write_text(json.dumps(next(e.plain for e in seen if isinstance(e, Judged))))
    assert {e.rung for e in seen if isinstance(e, Progress)} == {"features of text", "features of image", "align"}
    return root


@pytest.fixture(autouse=True)
def _apart(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of these tests, float32, and the folder where they are."""
    monkeypatch.setenv("MAPSTO_CACHE", str(place / "cache"))
    monkeypatch.setenv("MAPSTO_PRECISION", "fp32")
    monkeypatch.chdir(place)


def asked(root: Path) -> dict[str, Any]:
    return {**SMALL, "text": str(root / "text-net"), "image": str(root / "image-net")}


def stream(root: Path, **options: Any) -> Any:
    values = {"data": (str(root / "pairs.parquet"),), **asked(root), **options}
    return pretrain.run(config.fill(PretrainConfig, values))


def test_pairs_teach_a_space(place: Path) -> None:
    told, table = (place / "events.txt").read_text(), json.loads((place / "table.json").read_text())
    assert "72 examples of 2 modalities; different parts: 72 of text, 36 of image" in told
    assert "which share no part with them" in told
    assert "frozen; 32 wide" in told
    assert "by chance" in told
    for direction in ("text→image", "image→text"):
        found = table["directions"][direction]["recall"]["5"]
        assert found["value"] > 1.1 * found["chance"]
        assert found["low"] <= found["value"] <= found["high"]
    assert mapsto.verify(place / "net").ok


def test_a_saved_space_needs_its_sources_no_more(place: Path, tmp_path: Path) -> None:
    model = mapsto.load(place / "net")
    assert model.mapping.codec.spec()["parts"].keys() == {"text", "image"}
    again = mapsto.load(model.save(tmp_path / "copy"))
    mixed = ["two dog", pairs.picture(1, 1), {"text": "two dog", "image": pairs.picture(1, 1)}]
    vectors = model.embed(mixed)
    assert np.array_equal(vectors, again.embed(mixed))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    both = vectors[0] + vectors[1]
    assert np.allclose(vectors[2], both / np.linalg.norm(both), atol=1e-5)
    towers = model.mapping.encoder.towers  # type: ignore[union-attr]
    source = mapsto.load(place / "text-net").mapping.encoder
    assert all(
        torch.equal(a, b) for a, b in zip(towers["text"].parameters(), source.parameters(), strict=True)
    )  # frozen


def test_a_stopped_run_ends_with_the_same_bytes_and_a_repeat_too(place: Path, tmp_path: Path) -> None:
    stop(stream(place, out=str(tmp_path / "cut"), budget="12 steps"), 40)  # while features are computed
    learning = (
        e for e in stream(place, out=str(tmp_path / "cut"), budget="12 steps") if getattr(e, "rung", "") == "align"
    )
    stop(learning, 5)
    list(stream(place, out=str(tmp_path / "cut"), budget="12 steps"))
    list(stream(place, out=str(tmp_path / "whole"), budget="12 steps"))
    same(tmp_path, "model.safetensors", "metrics.json", "metrics.jsonl", "pretext/model.safetensors", "golden.json")
    saved = config.read(tmp_path / "whole" / "config.yaml")
    list(pretrain.run(config.fill(PretrainConfig, {**saved, "out": str(tmp_path / "again")})))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]
    told = list(stream(place, out=str(tmp_path / "whole"), budget="12 steps"))
    assert isinstance(told[0], Judged)  # finished before


def test_towers_are_run_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mapsto.codecs.image import ImageCodec

    count: list[int] = []
    encode = ImageCodec.encode
    monkeypatch.setattr(
        ImageCodec, "encode", lambda self, examples: count.append(len(examples)) or encode(self, examples)
    )
    list(stream(place, budget="2 steps"))
    assert sum(count) <= 24 + 4  # to measure the pace, and the golden examples


def test_held_out_pairs_share_no_part_with_those_learnt(place: Path) -> None:
    data = pairs_of(config.fill(PretrainConfig, {"data": (str(place / "pairs.parquet"),), **asked(place)}))
    for modality, numbers in data.numbers.items():
        assert not set(numbers[data.held]) & set(numbers[~data.held]), modality


def test_other_pairs_are_judged(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "net", "other.parquet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["directions"]["text→image"]
    assert (told["queries"], told["candidates"]) == (72, 36)
    assert told["recall"]["5"]["value"] > 2.5 * told["recall"]["5"]["chance"]
    assert main(["evaluate", "net", "other.parquet"]) == 0
    assert "image→text" in capsys.readouterr().out


def test_a_text_finds_pictures_and_a_picture_texts(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = finding.search(str(place / "net"), "one cat", place / "photos", top=36)
    assert [hit.cosine for hit in first.hits] == sorted((hit.cosine for hit in first.hits), reverse=True)
    assert first.modality == "image"
    ranks = []
    for red, blue in zip(pairs.RED, pairs.BLUE, strict=True):  # one alone may be among those held out
        found = finding.search(str(place / "net"), f"{red} {blue}", place / "photos", top=36)
        ranks.append([Path(hit.shown).stem for hit in found.hits].index(f"{red}-{blue}"))
    assert np.mean(ranks) < 9  # by chance 17.5
    assert main(["search", "net", "photos/two-dog.png", "--among", "pairs.parquet", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert main(["search", "net", "one cat", "--among", "photos", "--top", "36", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(one["path"]).name for one in told["results"]] == [Path(hit.shown).name for hit in first.hits]
    exact = (
        mapsto.load(place / "net").embed([{"image": hit.content} for hit in first.hits])
        @ mapsto.load(place / "net").embed(["one cat"])[0]
    )
    assert np.allclose([hit.cosine for hit in first.hits], exact, atol=1e-5)


def test_vectors_are_kept_by_content(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mapsto.codecs.image import ImageCodec

    monkeypatch.setenv("MAPSTO_CACHE", str(tmp_path / "cache"))
    root = pairs.folder(tmp_path / "photos")
    finding.search(str(place / "net"), "one cat", root)
    count: list[int] = []
    encode = ImageCodec.encode
    monkeypatch.setattr(
        ImageCodec, "encode", lambda self, examples: count.append(len(examples)) or encode(self, examples)
    )
    before = finding.search(str(place / "net"), "six seven", root)
    assert not count
    (root / "new.png").write_bytes(pairs.picture(2, 2, 7))
    (root / "twice.png").write_bytes(pairs.picture(2, 2, 7))
    after = finding.search(str(place / "net"), "six seven", root, top=38)
    assert count == [1]
    assert {hit.shown for hit in before.hits} - {hit.shown for hit in after.hits} == set()
    (kept,) = (tmp_path / "cache" / "features").glob("*/known.safetensors")
    kept.write_bytes(kept.read_bytes()[:-3])  # damaged: computed again
    again = finding.search(str(place / "net"), "six seven", root, top=38)
    assert [hit.cosine for hit in again.hits] == pytest.approx([hit.cosine for hit in after.hits], abs=1e-5)


def test_results_as_a_sheet_and_as_json(place: Path, tmp_path: Path) -> None:
    found = finding.search(str(place / "net"), "one cat", place / "photos", 5, str(tmp_path / "sheet.png"))
    assert pictures.measure((tmp_path / "sheet.png").read_bytes())[0] > 3 * 160
    finding.search(str(place / "net"), "one cat", place / "photos", 5, str(tmp_path / "found.json"))
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["query"] == "one cat"
    assert [one["path"] for one in told["results"]] == [hit.shown for hit in found.hits]


@pytest.mark.parametrize(("model", "query", "among", "modality"), [
    ("text-net", "two dog", "pairs.parquet", "text"), ("image-net", "photos/two-dog.png", "photos", "image"),
])  # fmt: skip
def test_a_model_of_one_modality_finds_its_own_kind(
    place: Path, model: str, query: str, among: str, modality: str
) -> None:
    found = mapsto.search(model, query, among, top=2)
    assert found.modality == modality
    assert found.hits[0].cosine == pytest.approx(1.0, abs=1e-4)
    assert found.searched == (72 if modality == "text" else 36)


def test_the_nearest_are_the_nearest() -> None:
    draw = torch.Generator().manual_seed(0)
    vectors, query = torch.randn(300, 8, generator=draw), torch.randn(8, generator=draw)
    rows, cosines = nearest(query, vectors, 12)
    every = torch.nn.functional.cosine_similarity(vectors, query[None], dim=1)
    assert rows == every.topk(12).indices.tolist()
    assert cosines == pytest.approx(every[rows].tolist(), abs=1e-5)
    assert len(nearest(query, vectors[:3], 12)[0]) == 3


def test_names_alone_classify(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            ["predict", "net", "photos/one-cat.png", "photos/six-seven.png", "--labels", "one cat, six seven", "--json"]
        )
        == 0
    )
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], second["name"]) == ("one cat", "six seven")
    assert sum(first["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    model = mapsto.load(place / "net")
    labels = model.embed([{"text": "one cat"}, {"text": "six seven"}])
    picture = model.embed([pairs.picture(0, 0)])[0]
    from mapsto.bundle import pretext

    sharp = float(pretext.objective_of(model.facts.extras, "net").sharpness)  # type: ignore[arg-type]
    exact = torch.softmax(sharp * torch.from_numpy(labels @ picture), 0)
    assert first["scores"]["one cat"] == pytest.approx(float(exact[0]), rel=0.01)
    out = tmp_path / "answers.csv"
    assert main(["predict", "net", "--data", "photos", "--labels", "one cat,six seven", "--out", str(out)]) == 0
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert {row["prediction"] for row in rows} == {"one cat", "six seven"}


def test_a_column_can_be_named_and_three_modalities_aligned(place: Path, tmp_path: Path) -> None:
    from tones import clip

    sounds = [clip("low" if i % 2 else "high", i) for i in range(36)]
    more = pairs.table(
        tmp_path / "three.parquet", noise=[b""] * 36, sound=[s if i else None for i, s in enumerate(sounds)]
    )
    values = {
        **asked(place),
        "text": f"caption={place / 'text-net'}",
        "audio": f"sound={place / 'audio-net'}",
        "budget": "3 steps",
    }
    seen: list[Any] = []
    mapsto.pretrain(more, watch=seen.append, **values)
    table = next(e.plain for e in seen if isinstance(e, Judged))
    assert len(table["directions"]) == 6
    assert any("examples without audio" in line for e in seen if isinstance(e, Found) for line in e.lines)


ALONG: dict[str, Any] = {"tune": ("text", "image"), "budget": "30 steps", "rate": 5e-3}


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of the bridges alone."""
    monkeypatch.setattr(bridges, "STEPS", 36)


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """Of a tower in a space."""
    encoder: Any = mapsto.load(folder).mapping.encoder
    return dict(encoder.towers[name].named_parameters())


@pytest.mark.usefixtures("_short")
def test_towers_learn_along_and_a_stopped_run_ends_with_the_same_bytes(place: Path, tmp_path: Path) -> None:
    for rung, done in (("bridges", 5), ("align", 3)):
        cut = (e for e in stream(place, out=str(tmp_path / "cut"), **ALONG) if getattr(e, "rung", "") == rung)
        stop(cut, done)
    list(stream(place, out=str(tmp_path / "cut"), **ALONG))
    seen = list(stream(place, out=str(tmp_path / "whole"), **ALONG))
    same(tmp_path, "model.safetensors", "metrics.json", "metrics.jsonl", "pretext/model.safetensors", "golden.json")
    told = "\n".join(line for e in seen if isinstance(e, (Planned, Judged)) for line in e.lines)
    for words in (
        "learns too, the lower the slower",
        "12 steps of the bridges alone",
        "read them in pieces",
        "reciprocal_rank 0.",
    ):
        assert words in told
    assert "not kept" not in told
    for name in ("text", "image"):
        before = dict(mapsto.load(place / f"{name}-net").mapping.encoder.named_parameters())
        after = weights(tmp_path / "whole", name)
        assert [key for key in before if torch.equal(before[key], after[key])] == [], name
    assert mapsto.verify(tmp_path / "whole").ok


@pytest.mark.parametrize(("options", "factors"), [
    ({"tune": ("text",)}, {"text.blocks.1.": 1.0, "text.blocks.0.": 0.9, "text.embed.": 0.81, "image.": None}),
    ({"tune": ("text",), "layers": 1}, {"text.blocks.1.": 1.0, "text.blocks.0.": None, "text.embed.": None, "image.": None}),
    ({"tune": ("text", "image"), "layers": 1}, {"text.blocks.0.": None, "image.before.": None, "image.blocks.1.": 1.0}),
    ({"image": "random", "tune": ("text",), "layers": 1}, {"text.blocks.1.": 0.1, "text.embed.": None, "image.": 1.0}),
])  # fmt: skip
def test_towers_move_by_rules(options: dict[str, Any], factors: dict[str, float | None], place: Path) -> None:
    request = {"data": (str(place / "pairs.parquet"),), **asked(place), **options}
    data = pairs_of(config.fill(PretrainConfig, request))
    encoder, objective = data.made()
    found = optimise.cover(towers.rules(data), torch.nn.ModuleDict({"encoder": encoder, "objective": objective}))
    rest = {name.split(".")[1]: factor for name, factor in found.items() if "towers" not in name}
    assert rest == {"bridges": 1.0 if options.get("image") == "random" else 0.3, "scale": 1.0}
    for start, factor in factors.items():
        those = {value for name, value in found.items() if name.startswith(f"encoder.towers.{start}")}
        assert those == {factor} if factor is None else max(those) == min(those) == pytest.approx(factor), start


@pytest.mark.usefixtures("_short")
def test_towers_that_helped_nothing_stay_as_they_came(place: Path, tmp_path: Path) -> None:
    seen = list(stream(place, out=str(tmp_path / "net"), **{**ALONG, "rate": 3.0}))
    told = next(e.lines for e in seen if isinstance(e, Judged))
    assert told[-1].endswith("; not kept")
    for name in ("text", "image"):
        before = dict(mapsto.load(place / f"{name}-net").mapping.encoder.named_parameters())
        assert all(torch.equal(value, before[key]) for key, value in weights(tmp_path / "net", name).items())


def test_random_towers_learn_from_the_start(place: Path, tmp_path: Path) -> None:
    values = {
        "text": "caption=random",
        "budget": "4 steps",
        "out": str(tmp_path / "net"),
    }
    seen = list(stream(place, **values))
    told = "\n".join(line for e in seen if isinstance(e, (Planned, Judged)) for line in e.lines)
    assert "random weights, which have learnt nothing yet; learns" in told
    assert "of the bridges alone" not in told
    assert {e.rung for e in seen if isinstance(e, Progress)} == {"features of image", "align"}
    held = mapsto.load(tmp_path / "net").mapping.encoder.spec()["towers"]
    assert held["text"]["spec"]["width"] == 128
    assert mapsto.verify(tmp_path / "net").ok


NET = ["--text", "text-net", "--image", "image-net"]


@pytest.mark.parametrize(("words", "said"), [
    (["pretrain", "pairs.parquet", "--objective", "align", "--text", "text-net"], "aligns two modalities or more"),
    (["pretrain", "pairs.parquet", "--objective", "align"], "got none"),
    (["pretrain", "pairs.parquet", "--objective", "align", "--text", "image-net", "--image", "text-net"], "reads image; name one"),
    (["pretrain", "pairs.parquet", "--objective", "align", "--text", "captoin=text-net", "--image", "image-net"], "did you mean 'caption'"),
    (["pretrain", "pairs.parquet", "--objective", "align", "--text", "caption=", "--image", "image-net"], "expected COLUMN=SOURCE"),
    (["pretrain", "pairs.parquet", "--objective", "align", "--text", "nowhere", "--image", "image-net"], "nowhere"),
    (["pretrain", "photos", "--objective", "align", *NET], "no column"),
    (["pretrain", "pairs.parquet", "other.parquet", "--objective", "align", *NET], "put them into one"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--batch", "8"], "take at least 16"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--depth", "3"], "'depth' says nothing to the objective 'align'"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--tune", "audio"], "nothing reads audio here"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--tune", "txt"], "did you mean 'text'"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--layers", "1"], "tune names none"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--tune", "text", "--batch", "8"], "take at least 16"),
    (["pretrain", "pairs.parquet", "--objective", "causal", "--tune", "text"], "'tune' says nothing to the objective 'causal'"),
    (["pretrain", "pairs.parquet", "--objective", "masked", "--audio", "x"], "'audio' says nothing to the objective 'masked'"),
    (["pretrain", "pairs.parquet", "--objective", "align", *NET, "--audio", "audio-net"], "no column for the audio"),
    (["pretrain", "few.parquet", "--objective", "align", *NET], "give more"),
    (["pretrain", "damaged.parquet", "--objective", "align", *NET], "damaged.parquet"),
    (["search", "net", "one cat", "--among", "nowhere"], "no among data"),
    (["search", "net", "nowhere.png", "--among", "photos"], "nowhere.png"),
    (["search", "net", " ", "--among", "photos"], "empty"),
    (["search", "net", "one cat", "--among", "photos", "--top", "0"], "expected 1 or more"),
    (["search", "net", "one cat", "--among", "photos", "--out", "x.bmp"], "no format '.bmp'"),
    (["search", "net", "photos/two-dog.png", "--among", "pairs.parquet", "--out", "x.png"], "a contact sheet shows pictures"),
    (["search", "image-net", "photos/two-dog.png", "--among", "numbers.csv"], "nothing to search among"),
    (["search", "nonet", "one cat", "--among", "photos"], "nonet"),
    (["predict", "net", "photos/two-dog.png", "--labels", "cat"], "at least two classes"),
    (["predict", "net", "photos/two-dog.png", "--labels", "cat,cat"], "share one name"),
    (["predict", "net", "photos/two-dog.png", "--labels", "cat,,dog"], "leave the empty ones out"),
    (["predict", "text-net", "a text", "--labels", "cat,dog"], "in one space"),
    (["predict", "net", "photos/two-dog.png"], "this model has no task"),
    (["evaluate", "net", "numbers.csv"], "no column"),
    (["evaluate", "net", "pairs.parquet", "--against", "net"], "evaluate each of the two"),
])  # fmt: skip
def test_bad_input_is_one_line(words: list[str], said: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq

    if not (place / "few.parquet").exists():
        pq.write_table(pq.read_table(place / "pairs.parquet").slice(0, 6), place / "few.parquet")
        (place / "damaged.parquet").write_bytes((place / "pairs.parquet").read_bytes()[:-50])
        (place / "numbers.csv").write_text("a,b\n" + "1,2\n3,4\n" * 20)
    out = ["--out", "made"] if words[0] == "pretrain" else []
    assert main([*words, *out]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert said in error[-1]
    assert not (place / "made").exists()
    assert not list(place.glob("x.*"))


def test_errors_are_typed(place: Path) -> None:
    with pytest.raises(ModelError, match="in one space"):
        finding.towards(mapsto.load(place / "text-net"), ["a", "b"])
    with pytest.raises(ConfigError, match="expected 1 or more"):
        mapsto.search(str(place / "net"), "one cat", place / "photos", top=0)
    with pytest.raises(DataError, match="expected parts of image and text"):
        mapsto.load(place / "net").embed([3])
