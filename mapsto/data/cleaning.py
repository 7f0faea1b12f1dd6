"""Which documents of a text are kept, and in which form: what may be asked for, and the value that says it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, final

from mapsto.core.errors import ConfigError, listing, suggestion

DOCUMENTS = ("auto", "file", "paragraph", "line")
FORMS = ("NFC", "NFKC", "none")
DUPLICATES = ("near", "exact", "keep")
SCRIPTS = {"latin": "A-Za-zªºÀ-ÖØ-öø-ɏ\u1e00-\u1eff", "han": "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af", "kana": "\u3040-\u30ff\u31f0-\u31ff",
           "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af", "cyrillic": "\u0400-\u052f", "greek": "\u0370-\u03ff\u1f00-\u1fff",
           "arabic": "\u0600-\u06ff\u0750-\u077f", "hebrew": "\u0590-\u05ff", "devanagari": "\u0900-\u097f",
           "thai": "\u0e00-\u0e7f"}  # fmt: skip


@final
@dataclass(frozen=True)
class Cleaning:
    """How documents are read and which are kept; a value of it and the files' bytes decide the corpus.

    `document` and `text`: as in `Documents`; `form`: Unicode normalisation; `shortest`, `longest`: characters;
    `script`: the writing that at least half of a document's letters must be of (a language's usual proxy: "han" for
    Chinese, "latin" for English); `duplicates`: which are dropped, "near" ones (and exact ones), "exact" ones or none.
    """

    document: str = "auto"
    text: str | None = None
    form: str = "NFC"
    shortest: int = 1
    longest: int | None = None
    script: str | None = None
    duplicates: str = "near"

    @classmethod
    def of(cls, request: Any) -> Cleaning:
        """As a request says it, whose options have these names."""
        return cls(**{choice.name: getattr(request, choice.name) for choice in fields(cls)})

    def __post_init__(self) -> None:
        faults = [
            f"no {name} {value!r}{suggestion(str(value), known)}, there is {listing(known)}"
            for name, value, known in (("document", self.document, DOCUMENTS), ("form", self.form, FORMS),
                                       ("script", self.script, tuple(SCRIPTS)), ("duplicates", self.duplicates, DUPLICATES))
            if value not in known and (name != "script" or value is not None)
        ]  # fmt: skip
        if self.shortest < 0 or (self.longest is not None and self.longest < max(1, self.shortest)):
            faults.append(f"expected 0 ≤ shortest ≤ longest, got {self.shortest} and {self.longest}")
        if faults:
            raise ConfigError("corpus: " + "; ".join(faults))
