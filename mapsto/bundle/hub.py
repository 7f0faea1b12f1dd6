"""How a pretrained model lies in its folder: as `transformers` would have written it, where one of its architectures
holds encoder and objective exactly; so `AutoModelForMaskedLM`, `AutoModelForCausalLM` or (electra)
`AutoModelForPreTraining` open the bundle itself.

Then `model.safetensors` has the architecture's names and holds the objective's weights too, but for a generator's, and
`config.json` and `tokenizer_config.json` lie beside it. A bundle with a `config.json` is read back through the same
table of names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from mapsto.bundle import pretext, stock
from mapsto.bundle.format import CONFIG, TOKENIZER_CONFIG, from_json, to_json
from mapsto.codecs.roles import roles, specials
from mapsto.codecs.text import TextCodec
from mapsto.core.contracts import Mapping as Composed
from mapsto.core.errors import ModelError

State = dict[str, Tensor]


def outward(mapping: Composed, extras: Mapping[str, bytes]) -> tuple[State, dict[str, bytes], dict[str, bytes]]:
    """The tensors and the files of a pretrained model as `transformers` has them, and the `extras` that are still needed.

    Raises:
        ModelError: it was not pretrained here, or no stock architecture holds it; says what stands in the way.
    """
    if mapping.task is not None:
        raise ModelError("export: a model of words has no task")
    config, state, rest = stock.language(mapping.encoder, pretext.objective_of(extras, "this model"))
    if not isinstance(mapping.codec, TextCodec):
        raise ModelError(f"export: expected a model of texts, this one reads {mapping.codec.name!r}")
    left = {name: content for name, content in extras.items() if name != pretext.WEIGHTS}
    return state, beside(mapping.codec, config), left | ({pretext.WEIGHTS: pretext.weights(rest)} if rest else {})


def beside(codec: TextCodec, config: Mapping[str, Any]) -> dict[str, bytes]:
    """`config.json` and `tokenizer_config.json`, for a codec and the architecture's config."""
    content = codec.files()["tokenizer.json"]
    known, found = specials(content), roles(content)
    ids = {f"{role}_token_id": known[found[role]] for role in ("pad", "bos", "eos") if role in found}
    ids = {name: value for name, value in ids.items() if config.get(name) is None}
    inputs = ["input_ids", *(["token_type_ids"] if config.get("type_vocab_size", 0) > 1 else []), "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": codec.max_length,
                "model_input_names": inputs, "clean_up_tokenization_spaces": False,
                **{f"{role}_token": token for role, token in found.items()}}  # fmt: skip
    return {CONFIG: to_json({**config, **ids, "dtype": "float32"}), TOKENIZER_CONFIG: to_json(settings)}


def inward(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[State, bytes | None]:
    """A bundle's tensors by our names, and the content of its head's file: what `outward` was given."""
    if not (folder / CONFIG).is_file():
        return dict(tensors), None
    encoder, head = stock.own(from_json(folder / CONFIG), tensors)
    rest = load_file(kept) if (kept := folder / pretext.WEIGHTS).is_file() else {}
    return {f"encoder.{name}": value for name, value in encoder.items()}, pretext.weights({**rest, **head})
