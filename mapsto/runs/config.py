"""What a user may say about a run; everything left out is derived by the plan and saved beside the answers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mapsto.core.config import option
from mapsto.core.durations import Duration
from mapsto.core.errors import ConfigError, listing
from mapsto.data.cleaning import DOCUMENTS, DUPLICATES, FORMS, SCRIPTS

AUGMENTS: dict[str, tuple[str, ...]] = {
    "image": ("crop", "flip", "rotate", "colour", "blur", "erase", "rand", "mixup", "cutmix"),
    "audio": ("speed", "shift", "tone", "holes", "pitch", "noise"),
}
"""Modality ↦ the ways in which its examples can be varied."""
SIZES = ("tiny", "small", "base")
RANDOM = "random"  # the source that is made of random weights
STRATEGIES = ("auto", "zero-shot", "frozen", "contrast", "mlp", "partial", "lora", "full", "boosted")


@dataclass(frozen=True)
class TransferConfig:
    """The request of `mapsto transfer`. `None` means: derive it and say why."""

    train: str = option(
        help="labelled data: a CSV, TSV, JSONL or Parquet file, a datasets folder, or a folder of pictures or recordings for each class"
    )
    target: str | None = option(None, help="the column to predict; a folder of folders needs none")
    source: str | None = option(
        None,
        help="the pretrained model: an alias, a folder, a bundle, a hub id, or random for random weights; otherwise minilm for texts, "
        "and random weights for all else",
    )
    size: str | None = option(None, choices=SIZES, help="of a net of random weights; otherwise tiny")
    out: str | None = option(None, help="the folder to write the model and the run to; it also makes the run resumable")
    test: str | None = option(None, help="held-out data that nothing is fitted or chosen on")
    valid: str | None = option(None, help="validation data; otherwise a part of the training data is set aside")
    text: tuple[str, ...] | None = option(None, help="the text column, or two for a pair")
    table: tuple[str, ...] | None = option(None, help="the columns of numbers, categories and dates")
    image: str | None = option(None, help="the column of pictures: paths, or the bytes of files")
    audio: str | None = option(None, help="the column of recordings: paths, or the bytes of files")
    task: str | None = option(
        None,
        choices=("single", "multi", "ordinal", "number", "transcribe"),
        help="what the target is; inferred from its values, but for the texts of what is said",
    )
    order: tuple[str, ...] | None = option(None, help="names of an ordinal target from the lowest to the highest")
    strategy: str = option("auto", choices=STRATEGIES, help="how to transfer; auto climbs a ladder of them")
    budget: Duration | None = option(None, help="how long to work: '10min', '3 epochs', '500 steps'")
    seed: int = option(0, least=0, help="every random choice follows from it")
    shots: int | None = option(None, above=0, help="use only this many training rows of each class")
    balance: str = option("auto", choices=("auto", "none", "classes"), help="weigh classes by inverse frequency")
    group: str | None = option(None, help="a column whose equal values stay on one side of the validation split")
    time: str | None = option(None, help="a column to order by: validation takes the latest rows")
    max_length: int | None = option(None, least=8, help="positions in one window; at most what the model can take")
    long: str = option("windows", choices=("windows", "cut"), help="what to do with longer texts")
    pair: str = option("auto", choices=("auto", "joint", "apart"), help="read the two texts as one input or as two")
    epochs: float | None = option(None, above=0, help="passes over the training rows of a tuned rung")
    batch: int | None = option(None, least=1, help="examples in one update")
    rate: float | None = option(None, above=0, help="the peak learning rate of a tuned rung")
    layers: int | None = option(None, least=1, help="how many upper blocks 'partial' tunes")
    rank: int = option(8, least=1, help="rank of the LoRA matrices")
    hidden: int | None = option(None, least=1, help="units of the hidden layer of 'mlp'")
    augment: tuple[str, ...] | None = option(
        None,
        choices=sum(AUGMENTS.values(), ()),
        help="how pictures or recordings are varied while a net is tuned on them",
    )
    receipt: str = option("brief", choices=("brief", "full"), help="full also trains the same net from random weights")
    online: bool = option(False, help="allow fetching the model that was named from the Hugging Face hub")
    tensorboard: bool = option(False, help="also write TensorBoard event files")
    plan: dict[str, Any] | None = option(None, help="a plan that was resolved before: what a repeat computes by")


WORDS = ("skipgram", "cbow")  # objectives whose model is a table of word vectors
PICTURES = ("simclr", "moco")  # objectives that learn from pictures
TABLES = ("columns", "scarf")  # objectives that learn from numbers and categories
SOUNDS = ("speech", "cpc")  # objectives that learn from recordings
PAIRS = ("align",)  # objectives that learn from examples of several modalities
PARTS = ("text", "image", "audio")  # modalities that they align
OBJECTIVES = ("masked", "causal", "permuted", "denoise", "electra", *WORDS, *PICTURES, *TABLES, *SOUNDS, *PAIRS)
UNITS = ("token", "word", "span")
NETS: dict[str, tuple[str, ...]] = {
    "tokens": ("transformer", "recurrent", "convnet"),
    "pictures": ("resnet", "patches"),
}
"""Kind of objective ↦ what reads for it, the usual one first."""


@dataclass(frozen=True)
class PretrainConfig:
    """The request of `mapsto pretrain`. `None` means: derive it and say why."""

    data: tuple[str, ...] = option(
        help="text: files, folders or globs of .txt, .jsonl, .parquet, .csv, also .gz and .zst; a folder or table of pictures or "
        "recordings; a table; or a table of pairs"
    )
    objective: str = option(
        "masked",
        choices=OBJECTIVES,
        help="what is learnt from the text, (simclr, moco) from pictures, (speech, cpc) from recordings, (columns, scarf) from a table, or (align) from pairs",
    )
    source: str | None = option(
        None, help="the model to go on from: what pretrain wrote, an alias, a folder or a hub id; else a new one"
    )
    vectors: str | None = option(
        None, help="word vectors from which a new model's table of words starts: what skipgram or cbow wrote, or a file"
    )
    units: str | None = option(
        None, choices=UNITS, help="what is hidden or asked for at once; otherwise tokens, by denoise spans"
    )
    nsp: bool = option(False, help="masked in pairs: also tell whether the second part of a window follows the first")
    out: str | None = option(None, help="the folder to write the model and the run to; it also makes the run resumable")
    size: str = option("tiny", choices=SIZES, help="one dial for width, depth, context, batch, rate and horizon")
    encoder: str | None = option(
        None,
        choices=(*NETS["tokens"], *NETS["pictures"]),
        help="what reads the text (transformer, where nothing is said) or the pictures (resnet)",
    )
    recipe: str = option(
        "modern", choices=("modern", "classic"), help="classic: the architecture and update of BERT or GPT-2"
    )
    budget: Duration | None = option(None, help="how long to learn: '20min', '3 epochs', '500 steps'")
    seed: int = option(0, least=0, help="every random choice follows from it")
    tokenizer: str | None = option(
        None, choices=("wordpiece", "bpe", "unigram", "characters"), help="how text becomes tokens"
    )
    vocabulary: int | None = option(None, least=8, help="tokens; otherwise derived from the text")
    context: int | None = option(None, least=8, help="the most positions of a window")
    width: int | None = option(None, least=8, help="of the encoder's rows, or of a word's vector")
    depth: int | None = option(None, least=1, help="blocks")
    batch: int | None = option(None, least=8, help="positions, pictures, recordings, rows or pairs in one update")
    rate: float | None = option(None, above=0, help="the peak learning rate")
    image: str | None = option(
        None,
        help="the column of pictures: paths, or the bytes of files; for align what reads them, SOURCE or COLUMN=SOURCE",
    )
    audio: str | None = option(
        None,
        help="the column of recordings: paths, or the bytes of files (speech, cpc); for align SOURCE or COLUMN=SOURCE",
    )
    tune: tuple[str, ...] | None = option(
        None, choices=PARTS, help="modalities whose encoders learn along with their bridges (align)"
    )
    layers: int | None = option(
        None, least=1, help="how many upper blocks of them; otherwise all, the lower the slower (align)"
    )
    table: tuple[str, ...] | None = option(None, help="the columns to learn from; otherwise all (columns, scarf)")
    target: str | None = option(None, help="a column to leave out, since it will be predicted (columns, scarf)")
    pixels: int | None = option(None, least=16, most=512, help="along the edge of a picture (simclr, moco)")
    augment: tuple[str, ...] | None = option(
        None, choices=("rotate", "erase"), help="how views differ beside crop, flip, colour and blur (simclr, moco)"
    )
    optimiser: str | None = option(None, choices=("adamw", "muon"), help="the update rule")
    window: int | None = option(None, least=1, help="the most words to either side of a word (skipgram, cbow)")
    negatives: int | None = option(None, least=1, help="words drawn as noise for each one (skipgram, cbow)")
    sample: float | None = option(None, least=0, most=0.999, help="the share of a text from which a word is thinned out; "
                                  "0: none is (skipgram, cbow)")  # fmt: skip
    min_count: int | None = option(None, least=1, help="how often a word must occur to get a vector (skipgram, cbow)")
    weighting: str | None = option(
        None, choices=("mean", "sif"), help="how a text's words are weighed (skipgram, cbow)"
    )
    segmenter: str | None = option(
        None, choices=("none", "rjieba"), help="what cuts Chinese into words (skipgram, cbow)"
    )
    phrases: int = option(0, least=0, most=8, help="passes that join words which stand together far more often than chance, as "
                          "new_york (skipgram, cbow)")  # fmt: skip
    subwords: str | None = option(None, help="also learn vectors of the parts of words, of so many characters, such as 3-6: words "
                                  "that were never seen have vectors too (skipgram, cbow)")  # fmt: skip
    buckets: int | None = option(None, least=1, most=10_000_000, help="rows that the parts of words share; otherwise derived "
                                 "from how many there are (skipgram, cbow)")  # fmt: skip
    threads: int | None = option(None, least=1, most=1024, help="cores to learn on (skipgram, cbow)")
    document: str = option("auto", choices=DOCUMENTS, help="what of a text file is a document")
    text: str | None = option(
        None,
        help="the text column of a table; for align what reads it, SOURCE or COLUMN=SOURCE; each of a list is a pair of its own",
    )
    form: str = option("NFC", choices=FORMS, help="how Unicode is normalised")
    shortest: int = option(1, least=0, help="characters of a document that is kept")
    longest: int | None = option(None, least=1, help="characters of a document that is kept")
    script: str | None = option(None, choices=tuple(SCRIPTS), help="the writing that at least half of a document's letters are of, such as "
                                "han for Chinese; otherwise any")  # fmt: skip
    duplicates: str = option("near", choices=DUPLICATES, help="which repeated documents are dropped")
    held: float = option(0.05, above=0, most=0.5, help="share of the documents that are held out to judge by")
    online: bool = option(False, help="allow fetching the model that was named from the Hugging Face hub")
    probe: str | None = option(None, help="a labelled file: the weights whose features tell its classes best are kept")
    probe_target: str | None = option(None, help="the column of classes in the probe's file")
    tensorboard: bool = option(False, help="also write TensorBoard event files")
    plan: dict[str, Any] | None = option(None, help="a plan that was resolved before: what a repeat computes by")

    def __post_init__(self) -> None:
        kind = _kind(self.objective)
        said = [
            f.name for f in fields(self) if kind not in _OF.get(f.name, (kind,)) and getattr(self, f.name) != f.default
        ]
        if said:
            kinds = set.intersection(*(set(_OF[name]) for name in said))
            others = [objective for objective in OBJECTIVES if _kind(objective) in kinds]
            raise ConfigError(f"options: {listing(said)} {'says' if len(said) == 1 else 'say'} nothing to the objective "
                              f"{self.objective!r}; leave out" + (f", or choose {listing(others)}" if others else ""))  # fmt: skip
        if self.buckets is not None and self.subwords is None and self.source is None:
            raise ConfigError(f"buckets {self.buckets}: expected --subwords beside it, as buckets are for the parts of words; say "
                              "of how many characters those are, such as --subwords 3-6, or leave buckets out")  # fmt: skip
        if kind in NETS and self.net not in NETS[kind]:
            raise ConfigError(f"encoder {self.encoder!r} does not read what the objective {self.objective!r} learns from; "
                              f"take one of {listing(NETS[kind])}")  # fmt: skip

    @property
    def net(self) -> str:
        """What reads."""
        return self.encoder or NETS[_kind(self.objective)][0]


def _kind(objective: str) -> str:
    kinds = {"words": WORDS, "pictures": PICTURES, "rows": TABLES, "sounds": SOUNDS, "pairs": PAIRS}
    return next((kind for kind, names in kinds.items() if objective in names), "tokens")


_OF: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "window",
            "negatives",
            "sample",
            "min_count",
            "weighting",
            "segmenter",
            "phrases",
            "subwords",
            "buckets",
            "threads",
        ),
        ("words",),
    ),
    **dict.fromkeys(
        (
            "vectors",
            "units",
            "nsp",
            "recipe",
            "tokenizer",
            "context",
            "optimiser",
            "probe",
            "probe_target",
        ),
        ("tokens",),
    ),
    "depth": ("tokens", "pictures", "rows", "sounds"),
    "batch": ("tokens", "pictures", "rows", "sounds", "pairs"),
    **dict.fromkeys(
        ("source", "vocabulary", "document", "form", "shortest", "longest", "script", "duplicates"), ("tokens", "words")
    ),
    "text": ("tokens", "words", "pairs"),
    "image": ("pictures", "pairs"),
    "audio": ("sounds", "pairs"),
    **dict.fromkeys(("pixels", "augment"), ("pictures",)),
    "encoder": ("tokens", "pictures"),
    "online": ("tokens", "pairs"),
    **dict.fromkeys(("table", "target"), ("rows",)),
    **dict.fromkeys(("tune", "layers"), ("pairs",)),
}
"""Option ↦ the kinds of objectives that it says something to, where that is not all of them."""

Request = TransferConfig | PretrainConfig
