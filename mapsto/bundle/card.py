"""The model card (a Hugging Face README.md): front matter for machines, a page for people, nothing that is not a fact.

What is not known is left out or said to be unknown; no sentence here judges the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Named
from pathlib import Path
from typing import Any

from mapsto.bundle.format import Facts
from mapsto.codecs.joint import JointCodec
from mapsto.core.contracts import Mapping
from mapsto.media.kinds import KINDS

_HUB = {"accuracy": "accuracy", "macro_f1": "f1", "micro_f1": "f1", "exact_match": "exact_match", "r2": "r_squared",
        "pearson": "pearsonr", "spearman": "spearmanr"}  # our metrics ↦ the hub's names  # fmt: skip
_TAGS = {"classify": {"text": "text-classification", "table": "tabular-classification"}
         | {modality: f"{modality}-classification" for modality in KINDS},
         "regress": {"text": "text-classification", "table": "tabular-regression"},
         "transcribe": {"audio": "automatic-speech-recognition"}}  # task, modality ↦ the hub's name, where it has one  # fmt: skip
_ROWS, _ITEMS = 40, 8  # of a table, of a list in one cell


def card(mapping: Mapping, facts: Facts, library: str = "mapsto", notes: Sequence[str] = ()) -> str:
    """The card as Markdown. `library` opens the folder: "mapsto", or "transformers" for an exported one; `notes` are
    further facts about this form of the model.
    """
    title = str((facts.config or {}).get("out") or "").rstrip("/").rpartition("/")[2]
    parts = [_front(mapping, facts, library), f"# {title or f'A {mapping.encoder.name} model'}\n"]
    parts += [_about(mapping, facts, notes), _use(mapping, facts, library)]
    parts += [_section("Scores", facts.metrics), _section("Data", facts.data)]
    if facts.receipt is not None:
        lines = [line.replace("\t", ": ", 1) for line in facts.receipt.lines()]
        parts.append("## Receipt\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(part for part in parts if part)


def stated(folder: Path) -> dict[str, Any]:
    """What a pretrained source says of itself in its README's front matter: `license`, `language` (a list), `base_model`.

    Only what it states is there; a card that cannot be read states nothing.
    """
    import yaml

    try:
        _, front, _ = (folder / "README.md").read_text("utf-8").split("---\n", 2)
        values = yaml.safe_load(front)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    values = values if isinstance(values, dict) else {}
    found = {name: values[name] for name in ("license", "base_model") if isinstance(values.get(name), str)}
    languages = values["language"] if isinstance(values.get("language"), list) else [values.get("language")]
    known = [one for one in languages if isinstance(one, str)]
    return {**found, **({"language": known} if known else {})}


def _front(mapping: Mapping, facts: Facts, library: str) -> str:
    """The YAML front matter that the hub reads."""
    import yaml

    source = facts.source
    metrics = sorted({_HUB[name] for path, _ in _leaves(facts.metrics) for name in path.split(" · ") if name in _HUB})
    base = str(source.get("base_model") or source.get("name") or "")
    values = {
        "license": source.get("license"), "language": source.get("language"),
        "base_model": base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) else None,
        "library_name": library,
        "pipeline_tag": _kind(mapping, facts),
        "tags": ["mapsto", *([facts.strategy] if facts.strategy else [])], "metrics": metrics,
    }  # fmt: skip
    kept = {name: value for name, value in values.items() if value}
    return "---\n" + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True) + "---\n"


def _about(mapping: Mapping, facts: Facts, notes: Sequence[str]) -> str:
    """What it is, where it comes from, what it may be used for."""
    spec = {} if mapping.task is None else mapping.task.spec()
    read = {"text": "text", **{kind: files.what for kind, files in KINDS.items()}}.get(
        mapping.codec.modality, "example"
    )
    out = [f"Task: {_told(mapping.task.name, spec)}." if mapping.task else f"It gives one vector for each {read}."]
    if names := spec.get("names"):
        shown = ", ".join(str(n) for n in names[:_ROWS])
        out.append(f"Labels ({len(names)}): {shown}{', …' if len(names) > _ROWS else ''}.")
    if facts.source:
        sha = facts.source.get("sha256")
        out.append(f"Pretrained source: {facts.source.get('name', 'unnamed')}" + (f", sha256 `{sha}`." if sha else "."))
        out.append(
            f"Licence of the source: {facts.source.get('license') or 'not recorded; look it up before sharing'}."
        )
    if facts.strategy:
        out.append(f"Transfer strategy: {facts.strategy}.")
    count = sum(p.numel() for p in mapping.encoder.parameters())
    out.append(f"Encoder: {mapping.encoder.name}, {count:,} parameters, width {mapping.encoder.width}.")
    return "".join(f"- {line}\n" for line in (*out, *notes))


def _told(name: str, spec: Named[str, Any]) -> str:
    if spec.get("thresholds"):
        return f"{name} ({spec['kind']}; thresholds " + ", ".join(f"{t:.3g}" for t in spec["thresholds"][:_ROWS]) + ")"
    return f"{name} ({spec['kind']})" if "kind" in spec else name


def _kind(mapping: Mapping, facts: Facts) -> str | None:
    """What the hub calls what it does, where it has a name for it."""
    modality = mapping.codec.modality
    if mapping.task is not None:
        return _TAGS.get(mapping.task.name, {}).get(modality)
    if "pretext/objective.json" in facts.extras and modality == "text":
        return "text-generation" if "causal" in mapping.encoder.attends else "fill-mask"
    return "image-feature-extraction" if modality == "image" else "feature-extraction"


def _use(mapping: Mapping, facts: Facts, library: str) -> str:
    """Code that runs."""
    if library == "transformers":
        kind = str(_kind(mapping, facts))
        text = {"fill-mask": '"a [MASK] film"', "text-generation": '"a text"'}.get(kind, '"a text", truncation=True')
        lines = [
            "from transformers import pipeline\n",
            f'run = pipeline("{kind}", "path/to/this/folder")',
            f"run({text})",
        ]
    else:
        verb, (imports, examples) = "embed" if mapping.task is None else "predict", _examples(mapping)
        lines = [*imports, "import mapsto\n", 'model = mapsto.load("path/to/this/folder")', f"model.{verb}({examples})"]
    check = "`mapsto verify path/to/this/folder` checks every byte and the golden examples.\n"
    code = "\n".join(lines)
    return f"## Use\n\n```python\n{code}\n```\n" + (f"\n{check}" if library == "mapsto" else "")


def _examples(mapping: Mapping) -> tuple[list[str], str]:
    """What is imported for them, and examples of what it reads; of a space without a task, of its first part."""
    codec = mapping.codec
    if isinstance(codec, JointCodec) and mapping.task is None:
        codec = next(iter(codec.parts.values()))
    if codec.modality in KINDS:
        return [], f'["path/to/a/{KINDS[codec.modality].what}"]'
    if codec.modality == "text":
        return [], '[("a text", "another")]' if codec.spec().get("pair") else '["a text"]'
    return ["import pandas\n"], 'pandas.read_csv("path/to/rows.csv")'


def _section(title: str, values: Named[str, Any]) -> str:
    """Facts as a table; where they hold `lines` for people, those."""
    if values.get("lines"):
        return f"## {title}\n\n```text\n" + "".join(f"{line}\n".expandtabs(24) for line in values["lines"]) + "```\n"
    rows = list(_leaves(values))
    if not rows:
        return ""
    head = f"## {title}\n\n| what | value |\n| --- | --- |\n"
    more = f"\n{len(rows) - _ROWS} more are in the JSON file.\n" if len(rows) > _ROWS else ""
    return head + "".join(f"| {_cell(what)} | {_cell(value)} |\n" for what, value in rows[:_ROWS]) + more


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as (path, text); a number with its interval, and a finding with its text, is one row."""
    if isinstance(values, (list, tuple)) and any(isinstance(v, (Named, list, tuple)) for v in values):
        for i, value in enumerate(values):
            named = value.get("name") if isinstance(value, Named) else None
            yield from _leaves(value, f"{path} · {named or i + 1}")
    elif isinstance(values, (list, tuple)):
        shown = "; ".join(_text(v) for v in values[:_ITEMS])
        yield path, f"{shown}; … ({len(values)})" if len(values) > _ITEMS else shown
    elif not isinstance(values, Named):
        yield path, _text(values)
    elif isinstance(values.get("text"), str):
        yield path, values["text"]
    elif all(isinstance(values.get(k), (int, float)) for k in ("value", "low", "high")):
        yield path, "{:.4g} (95%: {:.4g} to {:.4g})".format(*(float(values[k]) for k in ("value", "low", "high")))
    else:
        for name in sorted(values, key=str):
            yield from _leaves(values[name], f"{path} · {name}" if path else str(name))


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
