"""The noise field: its law, its purity, and the lazy answers against the dense ones."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from decodekit.core import noise
from decodekit.core.noise import Salt
from decodekit.core.rows import NONE

ALARM = 1e-6  # false-alarm level of every statistical test; seeds are fixed, so each passes or fails for good


def some(rows: int, positions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return noise.streams(seed, [1, 2], rows), torch.arange(positions).expand(rows, -1)


def race(rows: int, positions: int, vocab: int, seed: int = 0) -> Tensor:
    return noise.gumbel(*some(rows, positions, seed), vocab).neg().exp()


def test_every_token_is_exponential() -> None:
    field = race(200, 50, 150)
    assert stats.kstest(field.flatten().numpy(), "expon").pvalue > ALARM
    for token in (0, 63, 64, 127, 128, 149):
        assert stats.kstest(field[..., token].flatten().numpy(), "expon").pvalue > ALARM


def test_uniforms_and_exponentials() -> None:
    stream, at = some(100, 200)
    u = noise.uniform(stream, at, Salt.ACCEPT)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > ALARM
    assert torch.equal(noise.exponential(stream, at, Salt.ACCEPT), -u.log())
    extreme = noise._uniform(torch.tensor([0, -1, 1 << 62, -(1 << 63)]))
    assert ((extreme > 0) & (extreme < 1)).all()


def test_block_minimum() -> None:
    """Of 64 i.i.d. Exp(1): the minimum is Exp(64), its place uniform, and what the others exceed it by is Exp(1)."""
    block = race(400, 50, 64).view(-1, 64)
    low, place = block.min(1)
    assert stats.kstest((low * 64).numpy(), "expon").pvalue > ALARM
    assert stats.chisquare(place.bincount(minlength=64).numpy()).pvalue > ALARM
    excess = (block - low[:, None])[torch.arange(64) != place[:, None]]
    assert stats.kstest(excess.numpy(), "expon").pvalue > ALARM
    halves = torch.histogramdd(
        torch.stack([low * 64, place.double()], 1), bins=[8, 8], range=[0.0, 4.0, 0.0, 64.0]
    ).hist
    assert stats.chi2_contingency(halves.numpy()).pvalue > ALARM


@pytest.mark.parametrize(("i", "j"), [(0, 1), (3, 60), (63, 64), (10, 74)])
def test_pairs_of_tokens_are_independent(i: int, j: int) -> None:
    """Joint law within a block and across: 10 x 10 equiprobable cells."""
    field = race(400, 100, 128)
    cells = (1 - (-field).exp()).mul(10).long()  # each token's decile
    joint = (cells[..., i] * 10 + cells[..., j]).flatten().bincount(minlength=100)
    assert stats.chisquare(joint.numpy()).pvalue > ALARM


def test_triples_within_a_block_order_uniformly() -> None:
    field = race(400, 100, 64)[..., [5, 17, 40]].view(-1, 3)
    rank = field.argsort(1)
    seen = (rank[:, 0] * 9 + rank[:, 1] * 3 + rank[:, 2]).bincount(minlength=27)
    each = torch.tensor([int(seen[a * 9 + b * 3 + c]) for a, b, c in itertools.permutations(range(3))])
    assert stats.chisquare(each.numpy()).pvalue > ALARM


def test_places_streams_and_salts_are_uncorrelated() -> None:
    stream, at = some(64, 64)
    base = noise.gumbel(stream, at, 64).flatten()
    others = {
        "salt": noise.gumbel(stream, at, 64, Salt.ACCEPT),
        "next salt": noise.gumbel(stream, at, 64, 1000),
        "position": noise.gumbel(stream, at + 64, 64),
        "shifted": noise.gumbel(stream, at + 1, 64),
        "stream": noise.gumbel(stream + 1, at, 64),
        "tokens": noise.gumbel(stream, at, 128)[..., 64:],
        "swapped": noise.gumbel(at[0], stream[:, None].expand(-1, 64), 64),
    }
    for name, other in others.items():
        assert abs(stats.pearsonr(base.numpy(), other.flatten().numpy()).statistic) < 5 / len(base) ** 0.5, name


@given(st.integers(1, 300), st.data())
def test_a_value_depends_on_nothing_but_its_name(vocab: int, data: st.DataObject) -> None:
    rows, positions = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    stream = torch.tensor(data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=rows, max_size=rows)))
    at = torch.tensor(data.draw(st.lists(st.integers(-1, 5000), min_size=rows * positions, max_size=rows * positions)))
    at = at.view(rows, positions)
    whole = noise.gumbel(stream, at, vocab)
    r, k = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, positions - 1))
    alone = noise.gumbel(stream[r : r + 1], at[r : r + 1, k : k + 1], 320)
    assert torch.equal(whole[r, k], alone[0, 0, :vocab])


def test_streams() -> None:
    assert torch.equal(noise.streams(3, [1, 2, 3], 4)[:2], noise.streams(3, [1, 2, 3], 2))
    requests = [(s, p) for s in (0, 1, -1, 2**63) for p in ([], [0], [0, 0], [1, 2], [2, 1], [1, 2, 0], [7] * 50)]
    every = torch.cat([noise.streams(s, p, 5) for s, p in requests])
    assert len(set(every.tolist())) == len(every)
    assert torch.equal(noise.streams(2**64 + 5, [1], 1), noise.streams(5, [1], 1))
    bits = (every[:, None] >> torch.arange(64)) & 1
    assert abs(float(bits.double().mean()) - 0.5) < 5 * 0.5 / bits.numel() ** 0.5


def test_golden_values() -> None:
    """Any drift between devices, versions of torch or of this code shows here. Never change these numbers."""
    assert noise.streams(7, [11, 22, 33], 3).tolist() == GOLDEN_STREAMS
    stream = torch.tensor(GOLDEN_STREAMS)
    at = torch.tensor([[0, 1], [5, 1000], [NONE, 31]])
    got = noise.gumbel(stream, at, 200)[..., [0, 63, 64, 199]].flatten()
    torch.testing.assert_close(got, torch.tensor(GOLDEN_GUMBEL, dtype=torch.float64), rtol=0, atol=1e-12)
    got = noise.uniform(stream, at, Salt.RESAMPLE).flatten()
    torch.testing.assert_close(got, torch.tensor(GOLDEN_UNIFORM, dtype=torch.float64), rtol=0, atol=1e-12)


def logits_for(rows: int, vocab: int, seed: int, scale: float, empty: float) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocab, generator=made) * scale
    return logits.masked_fill(torch.rand(rows, vocab, generator=made) < empty, -torch.inf)


LOGITS = st.builds(
    logits_for,
    st.just(6),
    st.sampled_from([1, 5, 63, 64, 65, 1000, 1216]),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 1.0, 4.0, 30.0]),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
)


@pytest.mark.parametrize("first", [0, 2, 64])  # blocks evaluated at first: few force the second look
@given(LOGITS, st.booleans())
def test_lazy_argmax_is_the_dense_one(first: int, logits: Tensor, single: bool) -> None:
    stream = noise.streams(logits.shape[1], [5], 2)
    at = torch.tensor([[0, 7, 9], [3, NONE, 2]])
    logits = (logits if single else logits.double()).view(2, 3, -1)
    best, dense = (logits.double() + noise.gumbel(stream, at, logits.shape[-1])).max(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_FIRST", first)
        assert torch.equal(noise.argmax(logits, stream, at), dense.masked_fill(best == -torch.inf, NONE))


@pytest.mark.parametrize("first", [0, 64])
@given(LOGITS, st.sampled_from([1, 2, 8, 64, 300]))
def test_lazy_order_is_the_dense_one(first: int, logits: Tensor, count: int) -> None:
    stream, at = noise.streams(logits.shape[1], [6], 6), torch.tensor([0, 1, 2, NONE, 4, 5])
    dense = logits.double() + noise.gumbel(stream, at[:, None], logits.shape[1])[:, 0]
    keys, tokens = dense.sort(-1, descending=True)
    tokens = tokens.masked_fill(keys == -torch.inf, NONE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "_FIRST", first)
        got, value = noise.order(logits, stream, at, count)
    short = max(0, count - logits.shape[1])
    assert torch.equal(got, torch.nn.functional.pad(tokens[:, :count], (0, short), value=NONE))
    torch.testing.assert_close(
        value, torch.nn.functional.pad(keys[:, :count], (0, short), value=-torch.inf), rtol=0, atol=1e-12
    )
    assert torch.equal(noise.order(logits, stream, at, 2 * count)[0][:, :count], got)


def test_lazy_argmax_where_bounds_mislead() -> None:
    """A high logit in a block whose smallest exponential stands elsewhere: most blocks have to be evaluated."""
    vocab = 64 * 300
    logits = torch.full((1, 1, vocab), -30.0)
    logits[..., ::64] = 0.0
    for number in range(20):
        stream, at = noise.streams(number, [], 1), torch.tensor([[4]])
        dense = (logits.double() + noise.gumbel(stream, at, vocab)).argmax(-1)
        assert torch.equal(noise.argmax(logits, stream, at), dense)


def test_samples_have_the_law() -> None:
    p = torch.tensor([0.5, 0.25, 0.0, 0.2, 0.05], dtype=torch.float64)
    stream, at = some(200, 100)
    tokens = noise.argmax(p.log().expand(200, 100, -1), stream, at)
    seen = tokens.flatten().bincount(minlength=5)
    assert seen[2] == 0
    keep = p > 0
    assert stats.chisquare(seen[keep].numpy(), (p[keep] * 20000).numpy()).pvalue > ALARM


def test_no_rows() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert noise.argmax(torch.zeros(0, 2, 100), none, torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 2)
    assert noise.order(torch.zeros(0, 100), none, none, 3)[0].shape == (0, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_gives_the_same_field() -> None:
    stream, at = some(5, 4)
    here, there = noise.gumbel(stream, at, 1000), noise.gumbel(stream.cuda(), at.cuda(), 1000)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-12)
    logits = torch.randn(5, 4, 1000, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(noise.argmax(logits.cuda(), stream.cuda(), at.cuda()).cpu(), noise.argmax(logits, stream, at))


GOLDEN_STREAMS = [-189398593104282436, 8165260022616006581, 5952645159981869051]
GOLDEN_GUMBEL = [
    -0.7055530529154382,
    2.0153001640603962,
    -1.8130653050003929,
    -0.8906570529617224,
    -0.3638893534250146,
    1.1605117408942904,
    -0.1974889649798754,
    7.2192939879195555,
    0.777242498300596,
    0.7077063389797114,
    -0.8433650524762502,
    -0.3710310962324066,
    0.6938022956066189,
    -0.5405395844347538,
    -0.3891591448759078,
    0.16005865118294882,
    4.151950343870906,
    -0.5325519567391777,
    0.9732161856106647,
    0.9846253709301406,
    0.4510658847566781,
    3.0074215777559816,
    -0.7202621320060311,
    0.05473914516351634,
]
GOLDEN_UNIFORM = [
    0.1433848810671946,
    0.8690246734908181,
    0.3425810591738875,
    0.5530499287946135,
    0.8236465274402228,
    0.06661413635515256,
]
