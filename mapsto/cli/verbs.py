"""One verb, one function: each takes the checked request, does it through the API, shows it, and returns an exit code.

Everything heavy is imported inside, so that help and faults answer at once.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from mapsto.cli import show
from mapsto.cli.parser import KINDS
from mapsto.core import config
from mapsto.core.errors import ConfigError
from mapsto.runs.config import PretrainConfig, TransferConfig

if TYPE_CHECKING:
    from mapsto.model import Model


def transfer(request: Namespace) -> int:
    """A run from its request to its model, shown as it goes."""
    from mapsto.runs import transfer as runs

    show.events(runs.run(request.config, dry=request.dry_run), machine=request.json)
    return 0


def pretrain(request: Namespace) -> int:
    """A pretraining from its text to its model, shown as it goes."""
    from mapsto.runs import pretrain as runs

    show.events(runs.run(request.config, dry=request.dry_run), machine=request.json)
    return 0


def preview(request: Namespace) -> int:
    """A contact sheet of pictures and views of them, to a file."""
    from mapsto.runs import preview as sheets

    out, count = sheets.write(request.config)
    if request.json:
        show.document({"out": out, "pictures": count})
        return 0
    return _lines([f"wrote\t{out}", f"pictures\t{count}, each beside views of it"])


def generate(request: Namespace) -> int:
    """Texts that go on from prompts; a single one is shown as it is written."""
    from mapsto import api

    model, prompts, how = api.load(request.model), request.prompts, request.config
    if len(prompts) == how.count == how.beams == 1 and not request.json:
        for piece in chain(prompts, model.stream(prompts[0], how), "\n"):
            print(piece, end="", flush=True)
        return 0
    found = api.generate(model, prompts, how)
    if request.json:
        show.document([{"prompt": prompt, "texts": texts} for prompt, texts in zip(prompts, found, strict=True)])
        return 0
    for prompt, texts in zip(prompts, found, strict=True):
        for text in texts:
            print(prompt + text)
    return 0


def fill(request: Namespace) -> int:
    """Words for masks."""
    from mapsto import api

    found = api.fill(api.load(request.model), request.texts, request.top)
    if request.json:
        show.document([{"text": text, "masks": masks} for text, masks in zip(request.texts, found, strict=True)])
        return 0
    return _lines([f"{word}\t{chance:.4f}\t{text}" for text, masks in zip(request.texts, found, strict=True)
                   for words in masks for word, chance in words])  # fmt: skip


def run(request: Namespace) -> int:
    """The run that a saved config describes."""
    values = config.read(request.config)
    if request.out is not None:
        values["out"] = request.out
    pretraining = "objective" in values
    request.config = config.fill(PretrainConfig if pretraining else TransferConfig, values, where=request.config)
    return pretrain(request) if pretraining else transfer(request)


def predict(request: Namespace) -> int:
    """Predictions of texts to the screen, or of a file to a file (or to the screen, a JSON line each)."""
    if bool(request.texts) == bool(request.data):
        raise ConfigError("mapsto predict: give either texts or --data FILE")
    if request.out and not request.data:
        raise ConfigError("mapsto predict: --out needs --data FILE; texts are answered on the screen")
    from mapsto import api

    model = api.load(request.model)
    if request.labels is not None:
        from mapsto import finding

        model = finding.towards(model, [name.strip() for name in request.labels.split(",")], request.data)
    if request.dry_run:
        return _foreseen(request, model)
    if request.data:
        return _told(api.predict(model, request.data, request.out), request.json)
    pairs, rows = model.mapping.codec.spec().get("pair"), model.mapping.codec.modality == "table"
    answers = model.predict(_in_pairs(request.texts) if pairs else _as_rows(request.texts) if rows else request.texts)
    if request.json:
        show.document([answer.plain() for answer in answers])
        return 0
    said = map("\t".join, _in_pairs(request.texts)) if pairs else request.texts
    return _lines([f"{_brief(answer.plain())}\t{text}" for answer, text in zip(answers, said, strict=True)])


def neighbours(request: Namespace) -> int:
    """The words nearest to a word, or to a sum of words."""
    from mapsto import api

    found = api.encoder(request.model).neighbours(" ".join(request.words), request.top)
    if request.json:
        show.document([{"word": word, "cosine": cosine} for word, cosine in found])
        return 0
    return _lines([f"{cosine:.4f}\t{word}" for word, cosine in found])


def search(request: Namespace) -> int:
    """The nearest to a query, on the screen, as a contact sheet or as JSON."""
    from mapsto import finding
    from mapsto.cli.progress import Bar

    with Bar(sys.stderr) as bar:
        found = finding.search(request.model, request.query, request.among, request.top, request.out, online=request.online,
                               watch=bar.update)  # fmt: skip
    if request.json:
        show.document({"query": request.query, "out": request.out, **found.plain()})
        return 0
    wrote = [f"wrote\t{request.out}"] if request.out else []
    return _lines([*found.lines(), *wrote, *(f"noted\t{fact}" for fact in found.noted)])


def evaluate(request: Namespace) -> int:
    """Scores on held-out data with intervals."""
    from mapsto import api

    if request.dry_run:
        return _foreseen(request, api.encoder(request.model))
    return _told(api.evaluate(request.model, request.data, request.against), request.json)


def embed(request: Namespace) -> int:
    """One vector a text, to a file."""
    from mapsto import api

    if request.dry_run:
        return _foreseen(request, api.encoder(request.model, request.online))
    return _told(api.embed(request.model, request.data, request.out, request.online), request.json)


def verify(request: Namespace) -> int:
    """Whether a model folder is what its manifest and golden examples say; exit code 2 where it is not."""
    from mapsto import api

    found = api.verify(request.model)
    _told(found, request.json)
    return 0 if found.ok else 2


def transcribe(request: Namespace) -> int:
    """What is said in recordings."""
    from mapsto import api

    return _told(api.transcribe(request.model, request.recordings, request.beams), request.json)


def import_(request: Namespace) -> int:
    """Another program's model as a folder to transfer from."""
    from mapsto import starts

    return _told(starts.import_model(request.model, request.out), request.json)


def export(request: Namespace) -> int:
    """A model for other software."""
    from mapsto import api

    if request.dry_run:
        return _foreseen(request, api.load(request.model))
    return _told(api.export(request.model, request.to, request.out), request.json)


def list_(request: Namespace) -> int:
    """The menus."""
    from mapsto import inventory

    menus = {kind: [list(row) for row in inventory.rows(kind)] for kind in ([request.kind] if request.kind else KINDS)}
    if request.json:
        show.document(menus)
        return 0
    screen = show.Screen(sys.stdout)
    for kind, rows in menus.items():
        if request.kind:
            screen.lines(["\t".join(row) for row in rows])
        else:
            screen.section(kind, ["\t".join(row) for row in rows])
    return 0


def doctor(request: Namespace) -> int:
    """This machine, what was chosen for it, and why."""
    from mapsto import inventory

    rows = inventory.doctor()
    if request.json:
        show.document({name: {"value": value, "why": why} for name, value, why in rows})
        return 0
    return _lines(["\t".join(row) for row in rows])


def _told(found: Any, machine: bool) -> int:
    """Show whatever has `lines()` for people and `plain()` for machines."""
    if machine:
        show.document(found.plain())
        return 0
    return _lines(found.lines())


def _lines(lines: Sequence[str]) -> int:
    show.Screen(sys.stdout).lines(lines)
    return 0


def _brief(answer: dict[str, Any]) -> str:
    """A prediction's first values in columns: the answer, then how sure."""
    flat = [value for value in answer.values() if not isinstance(value, dict)]
    return "\t".join(
        f"{v:.4f}" if isinstance(v, float) else ", ".join(v) if isinstance(v, list) else str(v) for v in flat
    )


def _in_pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """First and second texts in turn, as pairs."""
    if len(texts) % 2:
        raise ConfigError(
            f"mapsto predict: this model reads pairs, so it takes an even number of texts, got {len(texts)}"
        )
    return list(zip(texts[::2], texts[1::2], strict=True))


def _as_rows(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table by column."""
    found = []
    for text in texts:
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ConfigError("mapsto predict: expected a row as a JSON object, such as '{\"age\": 41, \"city\": \"Rome\"}', got "
                              f"{text[:40]!r}; or give --data FILE")  # fmt: skip
        found.append(row)
    return found


def _foreseen(request: Namespace, model: Model) -> int:
    """What a verb would read and write, checked without doing it."""
    said, told = [f"model\t{request.model}\twas loaded"], {"model": request.model}
    if data := getattr(request, "data", None):
        from mapsto.data.columns import infer, inputs_of
        from mapsto.data.source import open_source

        if request.verb == "evaluate" and "columns" not in model.facts.data:  # pretrained
            return _lines([*said, f"data\t{data}\twould be read as {model.mapping.codec.modality}"])
        source, known = open_source(data, "data"), model.facts.data.get("columns", {})
        target = known.get("target") if request.verb == "evaluate" else None
        columns = infer(source, **inputs_of(known), target=target, task=known.get("kind") if target else None)
        told |= {"data": data, **{kind: list(names) for kind, names in columns.parts.items()}, "target": columns.target}
        said.append(f"data\t{data}\twould be read: {', '.join([*columns.inputs, *([target] if target else [])])}")
    if out := getattr(request, "out", None):
        if data:
            from mapsto.data import sink

            sink.checked(out, (".npy", ".parquet") if request.verb == "embed" else sink.SUFFIXES)
        told |= {"out": out}
        said.append(f"out\t{out}\twould be written")
    if request.json:
        show.document(told)
        return 0
    return _lines(said)


VERBS: dict[str, Callable[[Namespace], int]] = {
    "transfer": transfer, "pretrain": pretrain, "preview": preview, "generate": generate, "fill": fill, "neighbours": neighbours, "predict": predict, "search": search, "evaluate": evaluate, "embed": embed, "verify": verify,
    "transcribe": transcribe, "import": import_, "export": export, "list": list_, "doctor": doctor, "run": run,
}  # fmt: skip
