"""The dial: what it says is what is built."""

import itertools
from typing import Any

import pytest
import torch

from mapsto.core.errors import ConfigError
from mapsto.encoders import ENCODERS
from mapsto.encoders.pretrained import OWN
from mapsto.objectives import OBJECTIVES
from mapsto.runs import size as dial
from mapsto.runs.config import NETS, PretrainConfig

RECIPES = ("modern", "classic")
OBJECTIVE_NAMES = ("masked", "causal", "permuted", "denoise")

ALL = [
    *((*each, "transformer") for each in itertools.product(dial.SIZES, OBJECTIVE_NAMES, RECIPES)),
    *itertools.product(dial.SIZES, ["masked", "causal"], ["modern"], ["recurrent", "convnet"]),
]


def derive(size: str, objective: str, vocabulary: int, corpus: int, recipe: str = "modern", **more: Any) -> dial.Size:
    return dial.derive(
        PretrainConfig(data=("x",), size=size, objective=objective, recipe=recipe, **more), vocabulary, corpus
    )


@pytest.mark.parametrize(("size", "objective", "recipe", "net"), ALL)
def test_what_it_says_can_be_built(size: str, objective: str, recipe: str, net: str) -> None:
    made = derive(size, objective, 8000, 50_000_000, recipe, encoder=net)
    with torch.device("meta"):
        encoder = ENCODERS.load(net)(**made.encoder)
    more = {} if objective == "causal" else {"mask": 4, "end": 3} if objective == "denoise" else {"mask": 4}
    head = OBJECTIVES.load(objective)(**made.objective, **more)
    count = sum(p.numel() for p in [*encoder.parameters(), *head.parameters()])
    assert made.parameters == pytest.approx(count, rel=0.1)
    assert made.parameters == pytest.approx(derive(size, objective, 8000, 50_000_000, recipe).parameters, rel=0.1)
    assert head.demands in encoder.attends
    assert isinstance(made.settings.steps, int)
    assert made.settings.steps * made.batch == pytest.approx(made.tokens, rel=0.05)
    assert made.batch % made.context == 0
    assert {name for name, *_ in made.reasons} >= {"shape", "context", "batch", "rate", "horizon"}
    assert all(value and why for _, value, why in made.reasons)


def test_every_encoder_that_learns_is_a_source() -> None:
    assert {*NETS["tokens"], *NETS["pictures"], "words", "vgg", "module", "speech", "voices", "columns", "fused"} == {
        *OWN
    }
    with pytest.raises(ConfigError, match="'denoise' demands an encoder that obeys a mask, which 'recurrent' does not"):
        derive("tiny", "denoise", 8000, 10**7, encoder="recurrent")
    with pytest.raises(ConfigError, match="which encoder 'convnet' is not; leave it out"):
        derive("tiny", "causal", 65, 10**6, "classic", encoder="convnet")


def test_a_small_corpus_shortens_the_run_and_a_larger_net_learns_slower() -> None:
    few, many = (derive("tiny", "causal", 65, n) for n in (1_000_000, 10**9))
    assert few.tokens == 4_000_000
    assert many.tokens == 20 * many.parameters
    rates = [derive(s, o, 8000, 10**9, r).settings.rate for o in OBJECTIVE_NAMES for r in RECIPES for s in dial.SIZES]
    assert all(a > b > c for a, b, c in zip(rates[::3], rates[1::3], rates[2::3], strict=True))


def test_the_output_layer_is_its_own_where_the_table_is_small() -> None:
    assert derive("tiny", "causal", 65, 10**6).objective["tied"] is False
    assert derive("tiny", "causal", 30_000, 10**6).objective["tied"] is True
    assert derive("tiny", "causal", 65, 10**6, "classic").objective["tied"] is True


def test_units_and_pairs_reach_what_is_built_and_belong_to_their_objectives() -> None:
    made = derive("tiny", "masked", 8000, 10**7, units="word", nsp=True)
    assert (made.objective["units"], made.objective["nsp"], made.encoder["types"]) == ("word", True, 2)
    assert derive("tiny", "denoise", 8000, 10**7).objective["units"] == "span"
    with pytest.raises(
        ConfigError, match=r"units: causal asks for every token; .*nsp belongs to the objective masked, not"
    ):
        derive("tiny", "causal", 8000, 10**7, units="span", nsp=True)


def test_every_fault_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"width must be a multiple of 32.*got 100; batch 10 is less than one window"):
        derive("tiny", "causal", 65, 10**6, width=100, batch=10, context=16)
    with pytest.raises(
        ConfigError, match="a step reads 8,192 tokens but the corpus has 5,000; give more text or a smaller"
    ):
        derive("small", "causal", 65, 5000)
