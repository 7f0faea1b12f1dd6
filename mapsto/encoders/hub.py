"""Any text model of Hugging Face `transformers` as an encoder, through its own code; the only file of encoders that imports it.

Batches are padded on the right inside, and only real positions come out. `W` windows, `T` longest, `N` positions. What other
modalities ask of `transformers` stands below `load`.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mapsto.core.contracts import Batch, Encoded, Encoder
from mapsto.core.errors import ModelError
from mapsto.encoders.fitting import UNUSED, Loaded, check
from mapsto.nn.pooling import pool


@final
class Hub(Encoder):
    """A `transformers` model (of an encoder-decoder, its encoder).

    Args:
        config: the content of its config.json.
        attention: "full" or "causal", whichever the model computes.
        pooling: "mean", "cls" or "last".
        model: the loaded model itself; without it, one of that config with random weights.

    Raises:
        ModelError: transformers does not know such a model.
    """

    name: ClassVar[str] = "hub"
    needs: ClassVar[tuple[str, ...]] = ("ids", "lengths")

    def __init__(self, *, config: dict[str, Any], attention: str = "full", pooling: str = "mean",
                 model: Any = None) -> None:  # fmt: skip
        super().__init__()
        model = blank(config) if model is None else model
        model.config.use_cache = False
        self._spec = {"config": config, "attention": attention, "pooling": pooling}
        self.model: nn.Module = model.get_encoder() if model.config.is_encoder_decoder else model
        self.width, self.pooling, self.attends = int(model.config.hidden_size), pooling, frozenset({attention})
        self._pad = int(getattr(model.config, "pad_token_id", None) or 0)
        self._types = "token_type_ids" in inspect.signature(self.model.forward).parameters

    @property
    def entry(self) -> nn.Module:
        """The table of words."""
        found: nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return found

    @property
    def depths(self) -> Sequence[nn.Module]:
        """The longest list of modules that lies in no other list: its blocks."""
        return max(_lists(self.model), key=len, default=[])

    def forward(self, batch: Batch) -> Encoded:
        """Padded, run, and made ragged again."""
        lengths: Tensor = batch["lengths"]
        mask = torch.arange(int(lengths.max()), device=lengths.device) < lengths[:, None]
        given = {"input_ids": _padded(batch["ids"], mask, self._pad), "attention_mask": mask.long()}
        if self._types and "types" in batch:
            given["token_type_ids"] = _padded(batch["types"], mask, 0)
        rows = self.model(**given).last_hidden_state[mask]
        return Encoded(rows, lengths, pool(rows, lengths, batch.get("windows"), self.pooling))

    def spec(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self._spec)


def heaviest(model: nn.Module) -> list[nn.Module]:
    """Of the lists of modules that lie in no other list, the one with the most parameters: blocks, or stages of them."""
    return max(_lists(model), key=lambda blocks: sum(p.numel() for m in blocks for p in m.parameters()), default=[])


def _lists(model: nn.Module) -> list[list[nn.Module]]:
    """The lists of modules that lie in no other list."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    return [list(m) for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]


def limit(encoder: Encoder) -> int | None:
    """The most positions a window may have; None where the config states no end (relative positions)."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    config = encoder.spec()["config"]
    known = (config.get(key) for key in ("max_position_embeddings", "n_positions"))
    return next((k for k in known if isinstance(k, int) and k > 0), None)


def load(folder: Path, config: dict[str, Any], pooling: str | None = None) -> Loaded:
    """A model folder as an encoder in eval mode and float32.

    Raises:
        ModelError: unknown to transformers, or tensors are missing, misshapen, or of a block that it does not have.
    """
    model, poolers, extra = filled(folder, config)
    state = model.state_dict()
    for key in poolers:  # nothing reads it: the same bytes every time
        state[key].zero_()
    encoder = Hub(config=config, pooling=pooling or "mean", model=model)
    with quiet(str(folder)):  # it may want more than texts
        causal = _is_causal(encoder)
    if causal:
        encoder = Hub(config=config, attention="causal", pooling=pooling or "last", model=model)
    sizes = {id(p): p.numel() for p in encoder.parameters()}
    names = {name: sizes[id(p)] for name, p in model.named_parameters() if id(p) in sizes and name not in poolers}
    rows = int(encoder.entry.state_dict()["weight"].shape[0])
    unused = dict.fromkeys([*extra, *sorted(set(state) - poolers - set(names))], UNUSED)
    return Loaded(encoder, tuple(sorted(names)), unused, sum(names.values()) / sum(sizes.values()), rows)


def reads(config: dict[str, Any]) -> str:
    """What a model reads, by what its forward takes: "image", "audio" or "text".

    Raises:
        ModelError: unknown to transformers.
    """
    from transformers import AutoModel

    with quiet("config.json"):
        whole = _configuration(config)
        takes = inspect.signature(AutoModel._model_mapping[type(whole)].forward).parameters
    towers = "vision_config" in whole.sub_configs and "past_key_values" not in takes  # else it writes about pictures
    if takes.keys() & {"input_values", "input_features"} and "input_ids" not in takes:
        return "audio"
    return "image" if "pixel_values" in takes and ("input_ids" not in takes or towers) else "text"


def tower(config: dict[str, Any]) -> dict[str, Any]:
    """The config of the part that reads pictures; of a model that reads nothing else, its own."""
    with quiet("config.json"):
        part = getattr(_configuration(config), "vision_config", None)
        return config if part is None else part.to_dict()


def blank(config: dict[str, Any]) -> Any:
    """A model of this config with random weights, in float32."""
    from transformers import AutoModel

    with quiet("config.json"):
        return AutoModel.from_config(_configuration(config), dtype=torch.float32)


def wanted(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name ↦ shape of every tensor of a model that turns speech into text, each once where two share one."""
    from transformers import AutoModelForSpeechSeq2Seq

    with quiet("config.json"), torch.device("meta"):
        model = AutoModelForSpeechSeq2Seq.from_config(_configuration(config))
        return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def writer(folder: Path) -> tuple[Any, Any]:
    """A model of a folder that turns speech into text, in eval mode and float32, and what hears and writes for it.

    Raises:
        ModelError: unknown to transformers, it writes nothing, or tensors are missing.
    """
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    with quiet(str(folder)):
        how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model, info = AutoModelForSpeechSeq2Seq.from_pretrained(folder, use_safetensors=True, output_loading_info=True,
                                                                dtype=torch.float32, **how)  # fmt: skip
        processor = AutoProcessor.from_pretrained(folder, **how)
    check(str(folder), sorted(info["missing_keys"]), [], set(), [])
    return model.eval(), processor


def filled(folder: Path, config: dict[str, Any]) -> tuple[Any, set[str], list[str]]:
    """(a model of this config with the folder's weights, in eval mode and float32; its tensors that the folder lacks, all of a
    pooler; the folder's that it has no use for).

    Raises:
        ModelError: unknown to transformers, or tensors are missing, misshapen, or of a block that it does not have.
    """
    from transformers import AutoModel

    with quiet(str(folder)):
        model, info = AutoModel.from_pretrained(folder, config=_configuration(config), output_loading_info=True,
                                                local_files_only=True, trust_remote_code=False, use_safetensors=True,
                                                ignore_mismatched_sizes=True,  # they come back in `info`
                                                dtype=torch.float32)  # fmt: skip
    missing, extra = set(info["missing_keys"]), sorted(info["unexpected_keys"])
    poolers = {key for key in missing if "pooler." in key}
    misshapen = [f"{key} {tuple(one)} for {tuple(two)}" for key, one, two in info["mismatched_keys"]]
    missing -= {key for key, _, _ in info["mismatched_keys"]}
    bare = [key.removeprefix(f"{model.base_model_prefix}.") for key in extra]
    check(str(folder), sorted(missing - poolers), bare, set(model.state_dict()), misshapen)
    return model.eval(), poolers, extra


def processor(folder: Path) -> Any:
    """What prepares pictures for the model of a folder, as its preprocessor_config.json says."""
    from transformers import AutoImageProcessor

    with quiet(str(folder)):
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)


def extractor(given: dict[str, Any]) -> Any:
    """What makes features of sounds, of the content of a preprocessor_config.json.

    Raises:
        ModelError: transformers knows none of that name.
    """
    from transformers import SequenceFeatureExtractor
    from transformers.models.auto.feature_extraction_auto import feature_extractor_class_from_name

    with quiet("preprocessor_config.json"):
        name = given.get("feature_extractor_type")
        known = feature_extractor_class_from_name(name) if isinstance(name, str) else None
        if known is None or not issubclass(known, SequenceFeatureExtractor):
            raise ModelError(f"transformers knows no feature extractor of sounds {name!r}; choose another source")
        return known.from_dict(dict(given))


def convert_tokenizer(folder: Path) -> bytes:
    """The tokenizer of a folder without tokenizer.json, converted to that format.

    Raises:
        ModelError: it cannot be.
    """
    from transformers import AutoTokenizer

    with quiet(str(folder)):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        content: str = tokenizer.backend_tokenizer.to_str()
    return content.encode()


def _padded(values: Tensor, mask: Tensor, fill: int) -> Tensor:
    rectangle = values.new_full(mask.shape, fill)
    rectangle[mask] = values
    return rectangle


@torch.no_grad()
def _is_causal(encoder: Hub) -> bool:
    """Whether the first position ignores what comes after it."""
    lengths = torch.tensor([4, 4])
    rows = encoder({"ids": torch.tensor([5, 6, 7, 8, 5, 9, 10, 11]), "lengths": lengths}).rows
    return bool(torch.equal(rows[0], rows[4]))


def _configuration(config: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    kind = config.get("model_type")
    try:
        return AutoConfig.for_model(**config)
    except ValueError as fault:
        raise ModelError(f"transformers knows no model_type {kind!r}; choose another source") from fault


@contextlib.contextmanager
def quiet(where: str) -> Iterator[None]:
    """transformers without its notices and bars; whatever it raises becomes one ModelError sentence."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except ModelError:
        raise
    except Exception as fault:  # transformers raises every kind of error for a bad folder
        why = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
        raise ModelError(f"source {where!r}: transformers cannot load it: {why}") from fault
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
