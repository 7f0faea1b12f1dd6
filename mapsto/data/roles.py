"""What a column of a table looks as if it held: sentences, short texts, names of files, numbers, dates, codes; told by its head."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from mapsto.core.errors import listing
from mapsto.data.kinds import missing, number
from mapsto.media.kinds import KINDS as FILES

_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ].*)?")
_WORD = re.compile(r"[一-鿿぀-ヿ가-힯ก-๛]|[^\W一-鿿぀-ヿ가-힯ก-๛]+")
_CJK = re.compile(r"[一-鿿぀-ヿก-๛]")


def describe(values: list[Any]) -> tuple[str, str]:
    """(role, reason): `sentences`, `words` (text of another make), `few` (repeated strings), a modality of files, or `other`."""
    held = [v for v in values if not missing(v)]
    if not held:
        return "other", "is empty"
    kinds = Counter(map(_filed, held))
    modality, count = kinds.most_common(1)[0]
    if modality and count > 0.9 * len(held):
        what = FILES[modality].what
        return modality, f"holds {what}s" if not isinstance(held[0], str) else f"holds names of {what} files"
    if not all(isinstance(v, str) for v in held):
        types = {type(v).__name__ for v in held}
        return "other", "holds numbers" if types <= {"int", "float", "bool"} else f"holds {listing(sorted(types))}"
    if all(number(v) is not None for v in held):
        return "other", "holds numbers"
    if all(_DATE.fullmatch(v.strip()) for v in held):
        return "other", "holds dates"
    distinct, some = len(set(held)), held[:1000]
    words = sum(len(_WORD.findall(v[:2000])) for v in some) / len(some)
    enough = 6 if _CJK.search("".join(v[:20] for v in some)) else 3
    if distinct == 1 and len(held) > 1:
        return "few", "holds one value only"
    if words >= enough and distinct > 0.2 * len(held):
        return "sentences", f"reads like sentences ({words:.0f} words on average)"
    if distinct <= max(2, 0.05 * len(held)):
        return "few", f"holds only {distinct} different values"
    if distinct == len(held) > 20 and all(not re.search(r"\s", v.strip()) and re.search(r"\d", v) for v in some):
        return "other", "holds a different code in every row, like an id"
    return "words", "holds short texts"


def _filed(value: Any) -> str:
    """The modality of the file that a cell names or holds; "" where it does neither."""
    if isinstance(value, dict) and {"bytes", "path"} & value.keys():
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return next((modality for modality, kind in FILES.items() if kind.known(value)), "")
    if not isinstance(value, str) or "\n" in value:
        return ""
    end = f".{value.rpartition('.')[2].lower()}"
    return next((modality for modality, kind in FILES.items() if end in kind.suffixes), "")
