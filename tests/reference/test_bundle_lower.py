"""The head as one more layer of a stock model, against the plain formula in float64."""

import copy

import pytest
import torch
from torch.nn.functional import layer_norm

from mapsto.bundle import lower

LENGTHS = torch.tensor([30, 2, 7, 19, 1, 25])
MASK = (torch.arange(30) < LENGTHS[:, None]).long()
D, K, PAD = 32, 5, 99


def shaken(model, seed=0, by=0.3):
    """No weight stays at a value (0, 1) that could hide a mistake."""
    draw = torch.Generator().manual_seed(seed)
    for value in model.parameters():
        value.data.add_(torch.randn(value.shape, generator=draw) * by)
    return model.eval()


def inputs():
    ids = torch.randint(5, PAD, MASK.shape, generator=torch.Generator().manual_seed(1))
    return torch.where(MASK.bool(), ids, PAD)


def head(outputs=K, seed=2):
    draw = torch.Generator().manual_seed(seed)
    return lower.Head(torch.randn(outputs, D, generator=draw), torch.randn(outputs, generator=draw), 1e-5)


@torch.no_grad()
def plain(model, given, pooling):
    """Pool the real positions, normalise, one linear map; float64 throughout."""
    model = copy.deepcopy(model).double()
    states = model(inputs(), attention_mask=MASK).last_hidden_state
    pooled = {
        "mean": lambda: torch.stack([row[:n].mean(0) for row, n in zip(states, LENGTHS, strict=True)]),
        "cls": lambda: states[:, 0],
        "last": lambda: torch.stack([row[n - 1] for row, n in zip(states, LENGTHS, strict=True)]),
    }[pooling]()
    return layer_norm(pooled, (D,), eps=given.eps) @ given.weight.double().T + given.bias.double()


def gap(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def bert(eps, by=0.3):
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=100, hidden_size=D, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                        layer_norm_eps=eps, max_position_embeddings=40, pad_token_id=PAD)  # fmt: skip
    return shaken(BertModel(config, add_pooling_layer=False), by=by)


def lowered_bert(model, pooling, given):
    from transformers import BertForSequenceClassification

    config = copy.deepcopy(model.config)
    state = lower.bert(model.state_dict(), 2, config.layer_norm_eps, pooling, given)
    config.num_hidden_layers, config.num_labels = 3, len(given.bias)
    stock = BertForSequenceClassification(config).eval()
    stock.load_state_dict(state)
    return stock


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
@torch.no_grad()
def test_bert_gives_the_plain_formula(pooling, eps):
    model, given = bert(eps), head()
    stock = lowered_bert(model, pooling, given)
    assert gap(stock(inputs(), attention_mask=MASK).logits, plain(model, given, pooling)) < 2e-6


@torch.no_grad()
def test_bert_keeps_the_head_s_own_epsilon():
    """Where the pooled variance is near the head's ε, that ε decides; a lowering with BERT's 1e-12 would be far off."""
    model, given = bert(1e-12), head()
    last = model.encoder.layer[-1].output.LayerNorm
    last.weight.data *= 0.01
    last.bias.data *= 0.01
    truth = plain(model, given, "mean")
    assert gap(lowered_bert(model, "mean", given)(inputs(), attention_mask=MASK).logits, truth) < 2e-6
    assert gap(plain(model, lower.Head(given.weight, given.bias, 1e-12), "mean"), truth) > 1e-3


@torch.no_grad()
def test_bert_padding_and_mask_matter():
    model, given = bert(1e-12), head()
    stock = lowered_bert(model, "mean", given)
    masked, unmasked = stock(inputs(), attention_mask=MASK).logits, stock(inputs()).logits
    assert gap(unmasked[1:], masked[1:]) > 1e-2  # padding would be averaged in
    alone = stock(inputs()[2:3, :7], attention_mask=MASK[2:3, :7]).logits
    assert gap(masked[2:3], alone) < 2e-6


def gpt2(act="gelu_new"):
    from transformers import GPT2Config, GPT2Model

    return shaken(GPT2Model(GPT2Config(vocab_size=100, n_embd=D, n_layer=2, n_head=4, n_positions=40, pad_token_id=PAD,
                                       bos_token_id=1, eos_token_id=1, activation_function=act)))  # fmt: skip


@pytest.mark.parametrize(("pooling", "act", "outputs"), [("last", "gelu_new", K), ("last", "relu", K), ("last", "gelu", 50),
                                                         ("mean", "gelu_new", K), ("last", "silu", 1)])  # fmt: skip
@torch.no_grad()
def test_gpt2_gives_the_plain_formula(pooling, act, outputs):
    from transformers import GPT2ForSequenceClassification

    model, given = gpt2(act), head(outputs)
    state = lower.gpt2(model.state_dict(), 2, model.config.layer_norm_epsilon, pooling, given)
    config = copy.deepcopy(model.config)
    config.n_layer, config.num_labels = 3, outputs
    stock = GPT2ForSequenceClassification(config).eval()
    stock.load_state_dict(state)
    assert gap(stock(inputs(), attention_mask=MASK).logits, plain(model, given, pooling)) < 5e-6
