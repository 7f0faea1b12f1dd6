"""How tokens are chosen, when a text ends, and what is refused."""

import math
from typing import Any

import pytest
import torch
from toys import one_thread  # noqa: F401

from mapsto.core.errors import ConfigError, DataError
from mapsto.core.random import generator, uniform
from mapsto.encoders.transformer import Transformer
from mapsto.nn import sampling
from mapsto.objectives.masked import Masked
from mapsto.tasks.fill import fill
from mapsto.tasks.generate import Decoding, Reader, generate, stream

V = 12
SHAPE: dict[str, Any] = {"vocabulary": V, "width": 12, "depth": 1, "heads": 2, "inner": 12, "limit": 16}


def text(ids: Any) -> str:
    return "".join("abcdefghijkl"[i] for i in ids)


@pytest.fixture
def reader() -> Reader:
    torch.manual_seed(0)
    encoder = Transformer(**SHAPE, attention="causal").eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(6)
    return Reader(encoder, lambda rows: torch.nn.functional.linear(rows, encoder.words))


def test_top_keeps_the_k_highest() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0, 2.0], [4.0, 4.0, 1.0, 0.0]])
    assert (sampling.top(scores, 2) > -math.inf).tolist() == [[False, True, True, False], [True, True, False, False]]
    assert torch.equal(sampling.top(scores, 9), scores)


def test_a_nucleus_is_the_fewest_that_reach_p() -> None:
    scores = torch.randn(40, V, generator=generator(0, "nucleus"))
    for p in (0.05, 0.5, 0.9, 1.0):
        kept = sampling.nucleus(scores, p) > -math.inf
        for row, keep in zip(scores.double().softmax(1), kept, strict=True):
            order = sorted(range(V), key=lambda i: -float(row[i]))
            least = next(n for n in range(1, V + 1) if float(row[order[:n]].sum()) >= p - 1e-7)
            assert sorted(order[:least]) == keep.nonzero().squeeze(1).tolist()


def test_no_repeat_bans_what_completes_an_old_n_gram() -> None:
    for past in ([1, 2, 3, 1, 2], [1, 1, 1], [4], [2, 3, 2]):
        for n in (1, 2, 3):
            kept = sampling.unrepeated(torch.zeros(1, V), [past], n)[0] > -math.inf
            for token in range(V):
                grams = [tuple([*past, token][i : i + n]) for i in range(len(past) + 2 - n)]
                assert bool(kept[token]) is (len(grams) == 0 or grams.count(grams[-1]) == 1)


def test_draws_follow_the_chances_and_never_what_is_excluded() -> None:
    scores = torch.tensor([[1.0, 0.0, -math.inf, 2.0, -math.inf]]).expand(40_000, 5)
    drawn = sampling.draw(scores, uniform(torch.arange(40_000), 0, "draws"))
    shares = torch.bincount(drawn, minlength=5) / 40_000
    assert torch.allclose(shares, scores[0].softmax(0), atol=0.01)
    assert sampling.draw(scores[:2], torch.tensor([0.0, 1 - 1e-9])).tolist() == [0, 3]


def test_uniform_numbers_are_uniform_and_their_own() -> None:
    many = uniform(torch.arange(100_000), 1, "many")
    assert torch.histc(many, 10, 0, 1).sub(10_000).abs().max() < 400
    assert abs(float(torch.corrcoef(torch.stack([many[1:], many[:-1]]))[0, 1])) < 0.01
    assert torch.equal(uniform(torch.tensor([7]), 1, "many"), many[7:8])
    assert not torch.equal(uniform(torch.arange(9), 2, "many"), many[:9])


def test_a_text_depends_on_its_seed_and_its_copy_alone(reader: Reader) -> None:
    how = Decoding(12, count=3, seed=4)
    first, again = (generate(reader, [[1, 2], [3]], how, text) for _ in range(2))
    assert first == again
    assert len({made.ids for made in first[0]}) == 3
    assert generate(reader, [[3]], Decoding(12, count=1, seed=4), text)[0][0] == first[1][0]
    assert generate(reader, [[1, 2]], Decoding(12, seed=5), text)[0][0] != first[0][0]


def test_stops_and_ends(reader: Reader) -> None:
    plain = generate(reader, [[1]], Decoding(14, seed=1), text)[0][0]
    assert (len(plain.ids), plain.reason) == (14, "length")
    stop = plain.text[5:7]
    stopped = generate(reader, [[1]], Decoding(14, seed=1, stop=(stop, "zz")), text)[0][0]
    assert stopped.reason == "stop"
    assert stopped.text == plain.text[: plain.text.index(stop)]
    end = plain.ids[4]
    ended = generate(reader, [[1]], Decoding(14, seed=1, ends=(end,)), text)[0][0]
    assert ended.reason == "end"
    assert ended.ids == plain.ids[: plain.ids.index(end)]


@pytest.mark.parametrize("how", [Decoding(40, seed=1), Decoding(40, seed=1, stop=("ab", "ca", "l")),
                                 Decoding(40, temperature=0, ends=(3,)), Decoding(40, seed=2, top_k=2)])  # fmt: skip
def test_a_stream_is_the_text_in_pieces(reader: Reader, how: Decoding) -> None:
    pieces = list(stream(reader, [1, 2], how, text))
    assert "".join(pieces) == generate(reader, [[1, 2]], how, text)[0][0].text
    assert len(pieces) > 1 or how.stop or how.ends


def test_a_stream_never_shows_half_a_character(reader: Reader) -> None:
    def bytes_of(ids: Any) -> str:
        return bytes(b for i in ids for b in (0xC3, 0xA9)[: 1 + i % 2]).decode("utf-8", "replace")

    pieces = list(stream(reader, [1], Decoding(20, seed=3), bytes_of))
    assert all(piece[-1] != "\ufffd" for piece in pieces[:-1])
    assert "".join(pieces) == generate(reader, [[1]], Decoding(20, seed=3), bytes_of)[0][0].text


def test_a_stream_holds_back_a_stop_whose_next_character_is_half_there(reader: Reader) -> None:
    def spelt(ids: Any) -> str:  # an "a" and a Chinese character byte by byte, and so on
        return bytes(b for i, _ in enumerate(ids) for b in (b"a", b"\xe4", b"\xb8", b"\x80")[i % 4]).decode(
            "utf-8", "replace"
        )

    for stop in (("a一",), ("一a",), ("a一a一a",), ("zz",)):
        how = Decoding(14, seed=3, stop=stop)
        pieces = list(stream(reader, [1], how, spelt))
        assert "".join(pieces) == generate(reader, [[1]], how, spelt)[0][0].text
        assert all(piece[-1] != "\ufffd" for piece in pieces[:-1])


def test_what_cannot_be_written_on_is_refused(reader: Reader) -> None:
    with pytest.raises(DataError, match="prompt 2 is empty"):
        generate(reader, [[1], []], Decoding(), text)
    with pytest.raises(DataError, match="prompt 1 has 17 tokens but the model reads at most 16"):
        generate(reader, [[1] * 17], Decoding(), text)
    with pytest.raises(ConfigError, match="looks ahead"):
        Reader(Transformer(**SHAPE), lambda rows: rows)
    with pytest.raises(ConfigError, match="at least as many beams"):
        generate(reader, [[1]], Decoding(beams=2, count=3), text)
    with pytest.raises(ConfigError, match="draws nothing"):
        generate(reader, [[1]], Decoding(beams=2, top_p=0.5), text)
    with pytest.raises(ConfigError, match="cannot stream"):
        stream(reader, [1], Decoding(beams=2), text)


def test_fill_gives_the_likeliest_tokens_of_each_mask() -> None:
    torch.manual_seed(0)
    encoder, objective = Transformer(**SHAPE).eval(), Masked(V, 12, mask=3, special=[0])
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *objective.parameters()]:
            parameter.mul_(6)
    batch = {"ids": torch.tensor([0, 5, 3, 6, 0, 3, 3]), "lengths": torch.tensor([4, 3])}
    found = fill(encoder, lambda rows: objective.scores(encoder, rows), batch, 3, top=4, never=(0, 3))
    assert [len(window) for window in found] == [1, 2]
    whole = objective.scores(encoder, encoder(batch).rows)
    for at, mask in zip((2, 5, 6), [m for window in found for m in window], strict=True):
        allowed = whole[at].index_fill(0, torch.tensor([0, 3]), -math.inf).softmax(0)
        assert [f.token for f in mask] == allowed.argsort(descending=True)[:4].tolist()
        assert [f.chance for f in mask] == pytest.approx(allowed.sort(descending=True).values[:4].tolist(), rel=1e-5)
    with pytest.raises(DataError, match="text 2 holds no mask"):
        fill(encoder, lambda rows: rows, {"ids": torch.tensor([3, 5]), "lengths": torch.tensor([1, 1])}, 3)
