"""Supervised contrast against the formula as a double loop in float64, values and gradients."""

import math

import pytest
import torch

from mapsto.objectives.contrast import contrast


def naive(vectors, codes, temperature):
    unit = [v / v.norm() for v in vectors]
    losses = []
    for i, code in enumerate(codes):
        others = [a for a in range(len(codes)) if a != i]
        positives = [p for p in others if codes[p] == code]
        if not positives:
            continue
        whole = sum(torch.exp(unit[i] @ unit[a] / temperature) for a in others)
        terms = [torch.log(torch.exp(unit[i] @ unit[p] / temperature) / whole) for p in positives]
        losses.append(-sum(terms) / len(terms))
    return losses


@pytest.mark.parametrize("codes", [[0, 1, 0, 1, 2, 0], [3, 3, 3], [0, 1, 2, 2], [0, 1, 1, 5, 5, 5, 5, 9]], ids=str)
@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_equals_the_double_loop(codes, temperature):
    torch.manual_seed(len(codes))
    ours = torch.randn(len(codes), 7, requires_grad=True)
    theirs = ours.detach().double().requires_grad_()
    values, expected = contrast(ours, torch.tensor(codes), temperature), torch.stack(naive(theirs, codes, temperature))
    weights = torch.arange(1.0, len(values) + 1)
    (values * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(values.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)


def test_collapsed_orthogonal_classes_cost_what_the_formula_says():
    """Four classes of three equal vectors at right angles: log(2 + 9 exp(−1/τ)) each, nearly its floor log 2."""
    vectors = torch.eye(4).repeat_interleave(3, 0) * torch.rand(12, 1).add(0.5)
    values = contrast(vectors, torch.arange(4).repeat_interleave(3), 0.2)
    torch.testing.assert_close(values, torch.full((12,), math.log(2 + 9 * math.exp(-5))))
