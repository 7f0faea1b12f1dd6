"""The command line as a table of verbs. The options of a run are read off its config, so that Python, YAML and the
command line know the same names, helps and ranges.

`read` turns words into a checked request and names every fault at once; nothing here imports torch or numpy.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, final

from mapsto.core.config import fill
from mapsto.core.decoding import Decoding
from mapsto.core.errors import ConfigError, listing, suggestion
from mapsto.runs.config import PICTURES, PretrainConfig, TransferConfig

KINDS = ("models", "strategies", "tasks", "encoders", "objectives", "codecs")
RUNS: dict[str, type[Any]] = {
    "transfer": TransferConfig,
    "pretrain": PretrainConfig,
    "preview": PretrainConfig,
    "generate": Decoding,
}  # whose options are a config's fields
FLAGS = {"source": "from"}  # config field ↦ its flag, where the two differ
ALSO = {"width": ("--dim",)}  # config field ↦ other names that people know it by

PREVIEWED = (
    "data",
    "objective",
    "image",
    "pixels",
    "size",
    "augment",
    "seed",
)  # options of `pretrain` that it takes too

_EPILOG = """\
examples:
  mapsto transfer train.csv --target label --from minilm --out runs/first
  mapsto predict runs/first "where is my card?"
  mapsto evaluate runs/first test.csv

`mapsto VERB --help` lists what each takes. Exit codes: 0 done, 2 something to put right, 75 stopped and resumable.
"""


@final
class Parser(argparse.ArgumentParser):
    """argparse that raises its complaints as `ConfigError` (`error` is the hook it documents for this)."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a page of usage."""
        raise ConfigError(f"{self.prog}: {message}")


def read(words: Sequence[str]) -> argparse.Namespace:
    """The request behind the words of a command line; `verb` names it and a run's `config` is filled and checked.

    Raises:
        ConfigError: lists unknown options with the closest known ones, missing values and values out of range.
    """
    parser, verbs = build()
    named = next((w for w in words if not w.startswith("-")), None)
    if named is not None and named not in verbs:
        raise ConfigError(f"no command {named!r}{suggestion(named, verbs)}; there is {listing(verbs)}")
    request, strange = parser.parse_known_args(words)
    faults = []
    if strange:
        known = list(verbs[named]._option_string_actions) if named else ["--help", "--version"]
        faults = [_stranger(word, known) for word in strange if word.startswith("-")]
        faults = faults or [f"did not expect {listing(strange)}; quote values that hold spaces"]
    if request.verb in RUNS:
        kind = RUNS[request.verb]
        said = {f.name: getattr(request, f.name) for f in options(kind) if f.name in request}
        try:
            request.config = fill(kind, said, where="options")
        except ConfigError as fault:
            faults.append(str(fault).removeprefix("options: "))
    if faults:
        raise ConfigError(f"{verbs[named].prog if named else 'mapsto'}: " + "; ".join(faults))
    return request


def build() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `mapsto` and those of its verbs by name."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "x ↦ y. A pretrained model and a labelled table become a model one can trust."
    parser = Parser(prog="mapsto", description=about, epilog=_EPILOG, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    choices = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs", parser_class=Parser)
    verbs: dict[str, Parser] = {}
    for name, (line, arguments) in VERBS.items():
        about = line[0].upper() + line[1:].replace("%%", "%") + "."
        verbs[name] = choices.add_parser(name, help=line, description=about, formatter_class=raw, allow_abbrev=False)
        arguments(verbs[name])
        verbs[name].add_argument("--json", action="store_true", help="one JSON document on stdout, the rest on stderr")
    return parser, verbs


def _stranger(word: str, known: Sequence[str]) -> str:
    flag = word.split("=")[0]
    if flag in known:
        return f"{flag} belongs after the verb"
    return f"no option {flag!r}{suggestion(flag, known)}"


def _transfer(parser: Parser) -> None:
    _fields(parser, TransferConfig, "TRAIN --target COLUMN [--from MODEL] [--test FILE]")


def _pretrain(parser: Parser) -> None:
    _fields(parser, PretrainConfig, "DATA [DATA …] [--objective NAME] [--from MODEL] [--budget TIME]")


def _fields(parser: Parser, kind: type[Any], most: str) -> None:
    parser.usage = f"{parser.prog} {most} [--out FOLDER] [options]"
    for field in options(kind):
        _option(parser, field)
    _dry(parser)


def _preview(parser: Parser) -> None:
    parser.usage = "mapsto preview PICTURES [--objective NAME] [--out SHEET.png] [options]"
    for field in options(PretrainConfig):
        if field.name in PREVIEWED:
            _option(parser, field)
    parser.set_defaults(objective=PICTURES[0])
    parser.add_argument("--out", metavar="FILE", help="the PNG file to write (default sheet.png)")


def options(kind: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    """The fields of a run's config that a person can type."""
    return tuple(f for f in dataclasses.fields(kind) if "dict" not in str(f.type))


def _option(parser: Parser, field: dataclasses.Field[Any]) -> None:
    """One option from one config field; values stay text, for `fill` to read and check."""
    flag, hint = FLAGS.get(field.name, field.name.replace("_", "-")), field.metadata["help"]
    if choices := field.metadata["choices"]:
        hint += f": {', '.join(choices)}"
    if field.default is dataclasses.MISSING and field.name != "target":
        count = "*" if "tuple" in str(field.type) else "?"
        parser.add_argument(field.name, nargs=count, default=argparse.SUPPRESS, metavar=flag.upper(), help=hint)
        return
    if field.default is not dataclasses.MISSING and field.default is not None and field.default is not False:
        hint += f" (default {field.default})"
    shape: dict[str, Any] = {"metavar": flag.upper().replace("-", "_")}
    if isinstance(field.default, bool):
        shape = {"action": "store_true"}
    elif "tuple" in str(field.type):
        shape = {"action": "extend", "nargs": "+", "metavar": "NAME"}
    parser.add_argument(
        f"--{flag}",
        *ALSO.get(field.name, ()),
        dest=field.name,
        default=argparse.SUPPRESS,
        help=hint.replace("%", "%%"),
        **shape,
    )


def _dry(parser: Parser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, and stop")


def _model(parser: Parser, about: str = "the folder that `mapsto transfer --out` wrote", named: str = "MODEL") -> None:
    parser.add_argument("model", metavar=named, help=about)


def _predict(parser: Parser) -> None:
    _model(parser)
    parser.add_argument(
        "texts",
        nargs="*",
        default=(),
        metavar="TEXT",
        help="texts, or paths of files; for a model of pairs, first and second in turn",
    )
    parser.add_argument("--data", metavar="FILE", help="predict every row of a file instead")
    parser.add_argument("--out", metavar="FILE", help="where to write the predictions: .csv, .tsv, .jsonl or .parquet")
    parser.add_argument(
        "--labels",
        metavar="NAMES",
        help="names between commas to choose from, for a model that was pretrained with align",
    )
    _dry(parser)


def _generate(parser: Parser) -> None:
    _model(parser)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="how each text begins")
    for field in options(Decoding):
        _option(parser, field)


def _fill(parser: Parser) -> None:
    _model(parser)
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="texts with [MASK] where a word is missing")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many words for each (default 5)")


def _neighbours(parser: Parser) -> None:
    _model(parser, "what `mapsto pretrain --objective skipgram --out` wrote, or a file of vectors")
    parser.add_argument("words", nargs="+", metavar="WORD", help="a word, or words between + and -: king - man + woman")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="how many words (default 10)")


def _search(parser: Parser) -> None:
    _model(parser, "a space of several modalities, or any model or source that embeds")
    parser.add_argument("query", metavar="QUERY", help="a text, or the path of a picture or a recording")
    parser.add_argument("--among", required=True, metavar="DATA", help="a folder of files, or a table")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="how many (default 10)")
    parser.add_argument(
        "--out", metavar="FILE", help="a contact sheet of the pictures found (.png), or the results (.json)"
    )
    parser.add_argument("--online", action="store_true", help="allow fetching the source from the Hugging Face hub")


def _evaluate(parser: Parser) -> None:
    _model(parser)
    parser.add_argument(
        "data", metavar="DATA", help="labelled data that the model has not seen; text, for a pretrained one"
    )
    parser.add_argument(
        "--against", metavar="MODEL", help="another model of the task, or another causal one: what is gained over it"
    )
    _dry(parser)


def _embed(parser: Parser) -> None:
    _model(parser, "a model folder or a pretrained source such as minilm")
    parser.add_argument("data", metavar="DATA", help="the texts: a CSV, TSV, JSONL or Parquet file")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="where to write one vector a row: .npy or .parquet"
    )
    parser.add_argument("--online", action="store_true", help="allow fetching the source from the Hugging Face hub")
    _dry(parser)


def _transcribe(parser: Parser) -> None:
    _model(parser, "a model of the task transcribe, or a source that writes, such as Whisper")
    parser.add_argument("recordings", nargs="+", metavar="CLIP", help="recordings, or a folder of them")
    parser.add_argument("--beams", type=int, default=1, metavar="K", help="texts that are followed at once (default 1)")


def _import(parser: Parser) -> None:
    _model(
        parser,
        "a folder with a model.bin of CTranslate2, a torch file of resemblyzer's make, or an installed package that holds either",
        "PLACE",
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the folder to write")


def _export(parser: Parser) -> None:
    _model(parser)
    parser.add_argument(
        "--to", default="hf", metavar="FORMAT", help="hf: a folder for plain transformers (default); for word vectors "
        "word2vec (text, or binary where the file ends in .bin) or safetensors"
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="PLACE", help="the folder or file to write")
    _dry(parser)


def _list(parser: Parser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"one of {', '.join(KINDS)}; all when left out")


def _run(parser: Parser) -> None:
    parser.add_argument(
        "config", metavar="FILE", help="a finished run's config.yaml, or your own (.yaml, .toml or .json)"
    )
    parser.add_argument("--out", metavar="FOLDER", help="write there instead of where the file says")
    _dry(parser)


VERBS: dict[str, tuple[str, Callable[[Parser], None]]] = {
    "transfer": ("a pretrained model and labelled data become a model for the task, with a receipt", _transfer),
    "pretrain": ("an encoder learns from text that nobody has labelled", _pretrain),
    "preview": ("a contact sheet of what an objective shows of pictures", _preview),
    "generate": ("texts from a model that was pretrained with the objective causal", _generate),
    "fill": ("words for each [MASK] from a model that was pretrained with the objective masked", _fill),
    "neighbours": ("the words whose vectors are nearest to a word's", _neighbours),
    "predict": ("what a model says of texts, or of every row of a file", _predict),
    "search": ("what is nearest to a text, a picture or a recording, among files or rows", _search),
    "evaluate": ("how good a model is on held-out data, with 95%% intervals", _evaluate),
    "embed": ("one vector for each text", _embed),
    "verify": ("re-hash a model folder and run its golden examples again", _model),
    "transcribe": ("what is said in recordings", _transcribe),
    "import": ("Whisper of CTranslate2 or the speaker encoder of resemblyzer as a folder to transfer from", _import),
    "export": ("write a model for other software", _export),
    "list": ("what there is to choose from", _list),
    "doctor": ("what this machine has, what was chosen for it, and why", lambda parser: None),
    "run": ("repeat a run from its saved config, bit for bit", _run),
}
