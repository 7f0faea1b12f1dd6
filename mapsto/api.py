"""The front door: the verbs as functions, each on models, folders or sources alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from mapsto.bundle import load as loading
from mapsto.bundle import pretext, wordfiles
from mapsto.bundle.export import Exported
from mapsto.bundle.export import export as _export
from mapsto.bundle.format import HEAD, Facts
from mapsto.bundle.verify import Verification
from mapsto.bundle.verify import verify as _verify
from mapsto.bundle.wordfiles import Written
from mapsto.core import config, files
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.decoding import Decoding
from mapsto.core.errors import ModelError
from mapsto.data import sink
from mapsto.data.columns import infer, inputs_of
from mapsto.data.rows import Rows
from mapsto.data.rows import load as read
from mapsto.data.source import open_source
from mapsto.encoders import pretrained, sources
from mapsto.evaluation.recognition import Recognition
from mapsto.evaluation.suite import Report
from mapsto.media import kinds, sounds
from mapsto.model import Model
from mapsto.runs import pretrain as pretraining
from mapsto.runs import reading, space, unseen
from mapsto.runs import transfer as runs
from mapsto.runs.config import PretrainConfig, TransferConfig
from mapsto.runs.events import Event

IN_MEMORY = "data in memory"  # what stands for data that has no path


@final
@dataclass(frozen=True)
class Done:
    """What a verb wrote, for people and for machines."""

    said: tuple[str, ...]
    values: Mapping[str, Any]

    def lines(self) -> tuple[str, ...]:
        """One line a fact, columns divided by tabs."""
        return self.said

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        return dict(self.values)


def transfer(
    train: Any, target: str | None = None, *, watch: Callable[[Event], None] | None = None, **options: Any
) -> Model:
    """A pretrained model and labelled data become a model for the task.

    `train`, and `test` and `valid` among the options, are paths, DataFrames, datasets, or lists; the options are those
    of `TransferConfig`, such as `source="minilm"`, `strategy`, `budget="5min"`, `out`. `watch` is told every event.

    Raises:
        ConfigError, DataError, ModelError, OutputError, NetworkError: one sentence says what and what to do.
    """
    data: dict[str, Any] = {}
    values = {"train": train, **{k: v for k, v in {"target": target, **options}.items() if v is not None}}
    for name in ("train", "valid", "test"):
        if name in values and not isinstance(values[name], str):
            if isinstance(values[name], Path):
                values[name] = str(values[name])
            else:
                data[name], values[name] = values[name], IN_MEMORY
    stream = runs.run(config.fill(TransferConfig, values, "transfer"), data)
    return _watched(stream, watch)


def pretrain(data: Any, *, watch: Callable[[Event], None] | None = None, **options: Any) -> Model:
    """An encoder learns from text: `data` is a file, folder or glob, or a list of them; options are `PretrainConfig`'s.

    Raises:
        ConfigError, DataError, OutputError: one sentence says what and what to do.
    """
    places = [data] if isinstance(data, (str, Path)) else list(data)
    values = {"data": tuple(map(str, places)), **{k: v for k, v in options.items() if v is not None}}
    return _watched(pretraining.run(config.fill(PretrainConfig, values, "pretrain")), watch)


def _watched(stream: Any, watch: Callable[[Event], None] | None) -> Model:
    """The model at the end of a stream of events, each of which `watch` is told."""
    while True:
        try:
            event = next(stream)
        except StopIteration as end:
            return Model(end.value.mapping, end.value.facts)
        if watch is not None:
            watch(event)


def generate(
    model: Model | str, prompts: Sequence[str], how: Decoding | None = None, **options: Any
) -> list[list[str]]:
    """For each prompt the texts that go on from it; options are those of `Decoding`, such as `top_p=0.9`.

    Raises:
        ModelError: a model that was not pretrained, or that looks ahead.
        DataError: an empty prompt.
    """
    model = load(model) if isinstance(model, str) else model
    how = how or config.fill(Decoding, options, "generate")
    return model.generate(prompts, how)


def fill(model: Model | str, texts: Sequence[str], top: int = 5) -> list[list[list[tuple[str, float]]]]:
    """For each text, for each [MASK] in it, the `top` likeliest words with their chances.

    Raises:
        ModelError: a model that was not pretrained with the objective masked.
        DataError: a text without a mask.
    """
    return (load(model) if isinstance(model, str) else model).fill(texts, top)


def load(folder: Path | str) -> Model:
    """The model in a folder that `transfer` or `Model.save` wrote; every file is checked.

    Raises:
        ModelError: it is none, or it was damaged or altered.
    """
    held = loading.load(folder)
    return Model(held.mapping, held.facts)


def predict(model: Model | str, data: Any, out: str | None = None) -> Done:
    """Predictions for every row of `data`, written to `out` (.csv, .tsv, .jsonl, .parquet) as they come.

    Raises:
        DataError, ConfigError, OutputError: bad data, a name that says no format, a place that cannot be written.
    """
    model = load(model) if isinstance(model, str) else model
    if out is not None:
        sink.checked(out)
    rows = model.rows(data, labelled=False)
    answers = _answers(model, rows)
    if out is None:
        found = [
            dict(zip(chunk, values, strict=True)) for chunk in answers for values in zip(*chunk.values(), strict=True)
        ]
        said = tuple("\t".join(str(v) for v in row.values()) for row in found)
        return Done(said, {"predictions": found})
    count = sink.write(out, answers)
    noted = tuple(f"noted\t{fact}" for fact in rows.facts)
    return Done((f"wrote\t{out}", f"rows\t{count:,}", *noted), {"out": out, "rows": count, "noted": list(rows.facts)})


def _answers(model: Model, rows: Rows) -> Iterator[sink.Columns]:
    """Predictions beside their texts, or beside the paths of their files, a window of rows at a time."""
    names = [name for part in inputs_of(model.facts.data["columns"]).values() for name in part]
    for first in range(0, len(rows), model.mapping.codec.window):
        window = range(first, min(first + model.mapping.codec.window, len(rows)))
        found = [answer.plain() for answer in model.predict([rows.examples[i] for i in window])]
        columns: sink.Columns = {"row": [int(rows.numbers[i]) for i in window]}
        first, *more = (name for name, value in found[0].items() if not isinstance(value, dict))
        columns |= {
            "prediction": [one[first] for one in found],
            **{name: [one[name] for one in found] for name in more},
        }
        shown = list(zip(*(rows.examples.shown(i) for i in window), strict=True))
        yield {**columns, **{name: list(part) for name, part in zip(names, shown, strict=True)}}


def transcribe(model: Model | str, recordings: Sequence[Any] | str | Path, beams: int = 1) -> Done:
    """What is said in recordings: paths, bytes, or a folder of them, in which what is no recording is passed over and said.

    `model` is one of the task transcribe, or a source that writes by itself, such as Whisper; `beams` is how many texts are
    followed at once.

    Raises:
        ModelError: a model that does not write.
        DataError: a recording that cannot be read, or none.
    """
    clips, noted = sounds.gathered(recordings)
    if not isinstance(model, Model) and not (Path(model) / HEAD).exists():
        from mapsto.codecs.audio import AudioCodec
        from mapsto.encoders.whisper import Writer

        origin = sources.find(model)
        writer = Writer(origin.folder, f"source {model!r}")
        codec = AudioCodec.load(writer.hears, {})
        texts = [writer.text(codec.encode([clip]), beams) for clip in clips]
    else:
        held = load(model) if isinstance(model, str) else model
        texts = [answer.text for answer in held.transcribe(clips, beams)]
    named = [clip if isinstance(clip, str) else f"recording {i}" for i, clip in enumerate(clips, 1)]
    said = tuple(f"{text}\t{name}" for text, name in zip(texts, named, strict=True))
    return Done(
        (*said, *noted), {"texts": [{"audio": n, "text": t} for n, t in zip(named, texts, strict=True)], "noted": noted}
    )


def evaluate(model: Model | str, data: Any, against: Model | str | None = None) -> Report | Recognition | Done:
    """`Model.evaluate` of a model or its folder; `against` is another one of the same task.

    What was pretrained on text and has no task is judged on a path of text instead: its loss, and bits per byte of a causal one,
    also against another causal one.

    Raises:
        DataError, ModelError: as `Model.evaluate`.
    """
    if isinstance(model, str):
        model = (encoder if (Path(model) / "config.json").is_file() else load)(model)
    other = load(against) if isinstance(against, str) else against
    if model.mapping.encoder.name == "space" and model.mapping.task is None:
        table = space.judged(model.mapping, model.facts, data, model.machine, against is not None)
        return Done(tuple(table.pop("lines")), table)
    one = model.mapping
    if one.task is not None or one.codec.modality in kinds.KINDS or pretext.SPEC not in model.facts.extras:
        return model.evaluate(data, other)
    if other is None:
        figures = unseen.evaluate(model.mapping, model.facts, str(data))
        return Done(unseen.lines(figures), {"figures": figures})
    found = unseen.compare(model.mapping, model.facts, other.mapping, other.facts, str(data))
    return Done(unseen.compared(found), {"figures": {name: figure.plain() for name, figure in found.items()}})


def embed(model: Model | str, data: Any, out: str | None = None, online: bool = False) -> Any:
    """One vector for each row of `data` (or for each text, or path of a picture, of a list): an array, or with `out` a .npy or .parquet file.

    `model` is a model, its folder, or a pretrained source such as "minilm".

    Raises:
        ModelError, DataError, ConfigError, OutputError: as their names say.
    """
    suffix = sink.checked(out, (".npy", ".parquet")) if out is not None else ""
    held = model if isinstance(model, Model) else encoder(model, online)
    if isinstance(data, (list, tuple)) and all(isinstance(one, (str, bytes)) for one in data):
        examples: Sequence[Any] = data
    else:
        source = open_source(data, "data")
        known = inputs_of(held.facts.data.get("columns", {}))
        named: dict[str, Any] = {what: [n for n in names if n in source.columns] for what, names in known.items()}
        if list(named) == ["text"]:
            named = {"text": named["text"][:1]}  # of a pair
        if held.mapping.codec.modality == "table":
            named = {"table": held.mapping.codec.spec()["names"]}
        examples = read(source, infer(source, **named), "data").examples
    vectors = held.embed(examples)
    if out is None:
        return vectors
    if suffix == ".npy":
        import io

        held_bytes = io.BytesIO()
        np.save(held_bytes, vectors, allow_pickle=False)
        files.write(out, held_bytes.getvalue())
    else:
        sink.write(out, [{"row": list(range(1, len(vectors) + 1)), "vector": vectors.tolist()}])
    return Done((f"wrote\t{out}", f"vectors\t{vectors.shape[0]:,} of {vectors.shape[1]} values"),
                {"out": out, "rows": vectors.shape[0], "width": vectors.shape[1]})  # fmt: skip


def encoder(name: str, online: bool = False) -> Model:
    """A saved model or a pretrained source, to embed with."""
    if (Path(name) / HEAD).exists():
        return load(name)
    source = pretrained.load(sources.find(name, online))
    return Model(
        Composed(reading.usual(source), source.encoder), Facts(source={"name": name, "normalize": source.normalize})
    )


def verify(folder: Path | str) -> Verification:
    """Re-hash a model folder and run its golden examples again.

    Raises:
        ModelError: there is no such folder; whatever is wrong with one that is there is in the answer's `faults`.
    """
    if not Path(folder).is_dir():
        raise ModelError(f"no model folder at {str(folder)!r}; name the one that `mapsto transfer --out` wrote")
    return _verify(folder)


def export(model: Model | Path | str, to: str = "hf", out: Path | str = "exported") -> Exported | Written:
    """Write a model for other software; `hf` opens in plain `transformers`, `word2vec` in gensim.

    Raises:
        ModelError, ConfigError, OutputError: what the format cannot hold, an unknown format, an unwritable place.
    """
    if to in wordfiles.FORMATS:
        return wordfiles.export(model.mapping if isinstance(model, Model) else model, to, out)
    if isinstance(model, Model):
        return _export(model.mapping, to, out, model.facts)
    return _export(model, to, out)
