"""What moved, what stayed, and how the receipt reads."""

import json

import pytest
import torch
import toys

from mapsto.bundle.checks import moved_check, prints, sha_of
from mapsto.bundle.receipt import Moved, Receipt, Rung


def groups(encoder, frozen="embedding"):
    return {name: None if name.startswith(frozen) else name.partition(".")[0] for name, _ in encoder.named_parameters()}


def trained(encoder, names=("linear", "norm")):
    before = prints(encoder)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if name.startswith(names):
                value.mul_(1.01).add_(1e-3)
    return before


@torch.no_grad()
def test_training_is_seen_and_measured():
    _, encoder = toys.made()
    slow = {n: v.detach().clone() for n, v in encoder.named_parameters()}
    moved, frozen, findings = moved_check(trained(encoder), encoder, groups(encoder))
    assert (frozen, findings) == (1, ())
    assert [(m.group, m.tensors, m.changed) for m in moved] == [("linear", 2, 2), ("norm", 2, 2)]
    for group in moved:
        pairs = [(v - slow[n], slow[n]) for n, v in encoder.named_parameters() if n.startswith(group.group)]
        true = torch.cat([d.flatten() for d, _ in pairs]).norm() / torch.cat([b.flatten() for _, b in pairs]).norm()
        assert group.change == pytest.approx(float(true), rel=1e-5)


def test_nothing_that_moves_is_a_finding():
    _, encoder = toys.made()
    _, _, findings = moved_check(prints(encoder), encoder, groups(encoder))
    assert findings == ("linear was to be trained and none of its 2 tensors moved",
                        "norm was to be trained and none of its 2 tensors moved")  # fmt: skip


def test_a_frozen_tensor_that_changes_by_one_bit_is_a_finding():
    _, encoder = toys.made()
    before = trained(encoder)
    bits = encoder.embedding.weight.data.view(torch.int32)
    bits[-1, -1] ^= 1
    _, frozen, findings = moved_check(before, encoder, groups(encoder))
    assert frozen == 0
    assert findings == ("'embedding.weight' was frozen and changed all the same",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_a_finding(value):
    _, encoder = toys.made()
    before = trained(encoder)
    encoder.linear.bias.data[3] = value
    assert "'linear.bias' is no longer finite" in moved_check(before, encoder, groups(encoder))[2]


def test_tensors_that_come_or_go_are_findings():
    _, encoder = toys.made()
    before = trained(encoder)
    encoder.extra, encoder.norm = torch.nn.Linear(2, 2), torch.nn.Identity()
    findings = moved_check(before, encoder, groups(toys.made()[1]))[2]
    assert findings == ("'norm.bias', 'norm.weight' was there before training and is gone",
                        "'extra.bias', 'extra.weight' came during training")  # fmt: skip


def test_a_group_may_have_tensors_that_nothing_touched():
    _, encoder = toys.made()
    moved, _, findings = moved_check(trained(encoder, ("linear.weight", "norm")), encoder, groups(encoder))
    assert findings == ()
    assert (moved[0].group, moved[0].tensors, moved[0].changed) == ("linear", 2, 1)


def test_the_sha_is_of_the_values_in_order_not_of_the_storage():
    value = torch.arange(12.0).reshape(3, 4)
    assert sha_of(value) == sha_of(value.t().contiguous().t()) != sha_of(value.flip(0))
    assert sha_of(torch.zeros(3, 0)) == sha_of(torch.zeros(0))
    assert sha_of(value.bfloat16()) != sha_of(value)


RECEIPT = Receipt(source="minilm", sha256="53aa51172d142c89", tensors=101, loaded=101, parameters=22_565_376, share=1.0,
                  difference=2.5e-7, moved=(Moved("blocks.4", 12, 12, 0.002), Moved("blocks.5", 12, 11, 0.0123)), frozen=89, metric="accuracy",
                  rungs=(Rung("frozen", 0.925, 12.5, True), Rung("full", 0.92, 40.0, False)), baseline="TF-IDF", base=0.894, random=0.6,
                  seconds=55.04, findings=("a finding",))  # fmt: skip


def test_a_receipt_reads_like_this():
    assert RECEIPT.lines() == (
        "loaded\t101 of 101 tensors, 100.00% of 22,565,376 parameters, bit for bit from minilm (sha256 53aa51172d14)",
        "step 0\tfeatures differ from the source's by 2e-07 of the largest",
        "moved\t23 of 24 trained tensors, by 0.2% (blocks.4) to 1.2% (blocks.5)",
        "frozen\t89 tensors kept every byte",
        "gained\tfrozen: accuracy 0.925, +0.031 over TF-IDF, +0.325 over random weights, 12.5 s",
        "gained\tfull: accuracy 0.920, +0.026 over TF-IDF, +0.320 over random weights, 40.0 s, not kept",
        "took\t55.0 s",
        "finding\ta finding",
    )
    assert Receipt().lines()[-1] == "finding\tnone"


def test_a_receipt_survives_json():
    assert Receipt.load(json.loads(json.dumps(RECEIPT.plain()))) == RECEIPT
