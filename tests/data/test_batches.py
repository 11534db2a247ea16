"""Order and captions of batches, all from the seed, on one process or several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.data.batches import Precomputed, batches, caption_choice, epoch_order, share
from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError


class Numbered(Pairs):
    """Row r shows the colour r and has 1 + r % 3 captions, "r 0", "r 1", ..."""

    name, image_size = "numbered", 4

    def __init__(self, rows: int):
        self.rows = rows
        self.tokenize(Numbers())

    def __len__(self):
        return self.rows

    def pixels(self, index):
        return index.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()

    def captions(self, row):
        return [f"{row} {k}" for k in range(1 + row % 3)]


class Numbers:
    def encode(self, texts):
        return np.array([[int(word) for word in text.split()] for text in texts], np.int32), np.full(
            len(texts), 2, np.int32
        )


def epoch(pairs, **settings):
    return list(batches(pairs, **{"batch_size": 5, "seed": 1, "epoch": 0, **settings}))


def rows_of(got) -> list[int]:
    return torch.cat([batch.index for batch in got]).tolist()


def same(one, two) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip((one.index, *one.image, *one.text), (two.index, *two.image, *two.text), strict=True)
    )


def test_an_epoch_visits_rows_once_and_drops_the_rest():
    got = epoch(Numbered(23))
    assert [len(batch.index) for batch in got] == [5, 5, 5, 5]
    assert len(set(rows_of(got))) == 20
    assert sorted(rows_of(epoch(Numbered(20)))) == list(range(20))


def test_epochs_and_seeds_differ_and_repeat():
    pairs = Numbered(60)
    orders = {
        (seed, number): tuple(rows_of(epoch(pairs, seed=seed, epoch=number)))
        for seed in range(4)
        for number in range(4)
    }
    assert len(set(orders.values())) == 16
    assert orders[2, 3] == tuple(rows_of(epoch(pairs, seed=2, epoch=3)))
    huge = [tuple(epoch_order(60, seed=seed, epoch=0).tolist()) for seed in (0, 2**32, 2**33, 2**63 - 1)]
    assert len(set(huge)) == 4


def test_every_epoch_is_a_permutation_without_a_favourite():
    first = torch.stack([epoch_order(8, seed=0, epoch=e) for e in range(400)])
    assert torch.equal(first.sort(1).values, torch.arange(8).expand(400, 8))
    counts = torch.stack([(first[:, place, None] == torch.arange(8)).sum(0) for place in (0, 7)])
    assert counts.min() > 25 and counts.max() < 80  # 50 +- 4.5 standard deviations


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = epoch(Numbered(20))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert all(same(a, b) for a, b in zip(one, epoch(Numbered(20)), strict=True))


@pytest.mark.parametrize("skip", [0, 1, 3, 4])
def test_resumed_in_the_middle_of_an_epoch(skip):
    pairs = Numbered(23)
    whole, rest = epoch(pairs), epoch(pairs, skip=skip)
    assert len(rest) == 4 - skip
    assert all(same(a, b) for a, b in zip(whole[skip:], rest, strict=True))


def test_pixels_and_captions_are_those_of_the_row():
    pairs, shown = Numbered(21), {}
    for number in range(12):
        for batch in epoch(pairs, epoch=number):
            (pixels,), (ids, mask) = batch.image, batch.text
            assert pixels.dtype == torch.uint8 and torch.equal(pixels[:, 0, 0, 0].long(), batch.index)
            assert torch.equal(ids[:, 0], batch.index) and mask.all()
            for row, caption in ids.tolist():
                shown.setdefault(row, set()).add(caption)
    assert shown == {row: set(range(1 + row % 3)) for row in range(21)}  # over the epochs a row shows all of its own


def test_caption_choice_is_independent_of_the_order():
    a, b = caption_choice(500, seed=1, epoch=0), caption_choice(500, seed=1, epoch=1)
    assert a.min() >= 0 and not torch.equal(a, b)
    assert 180 < int((a % 2 == b % 2).sum()) < 320
    order = epoch_order(500, seed=1, epoch=0).double()
    assert abs(float(torch.corrcoef(torch.stack([order, a.double()]))[0, 1])) < 0.2


def test_features_instead_of_pixels_and_tokens():
    pairs = Numbered(22)
    _, _, owner = pairs.all_tokens()
    first = torch.searchsorted(owner, torch.arange(23))
    texts = torch.stack(
        [owner.float(), (torch.arange(len(owner)) - first[owner]).float()], 1
    )  # (row, number of caption)
    images = torch.arange(22.0)[:, None] * torch.ones(1, 3)
    plain = epoch(pairs, epoch=7)
    for batch, kept in zip(plain, epoch(pairs, epoch=7, precomputed=Precomputed(images, (texts, first))), strict=True):
        assert torch.equal(batch.index, kept.index)
        assert torch.equal(kept.image[0], images[batch.index]) and len(kept.image) == len(kept.text) == 1
        assert torch.equal(kept.text[0].long(), batch.text[0])  # the same caption that the tokens would have shown


def test_a_batch_larger_than_the_data():
    with pytest.raises(ClipeduError, match="batch_size=5 is larger than the data: numbered/train has 4 pairs"):
        epoch(Numbered(4))
    assert len(epoch(Numbered(5))) == 1


def test_to_moves_what_the_model_sees():
    """The rows' numbers stay on the CPU, where a loss can check them without waiting for the device."""
    batch = epoch(Numbered(20))[0].to(torch.device("meta"))
    assert {t.device.type for t in (*batch.image, *batch.text)} == {"meta"} and batch.index.device.type == "cpu"


# several processes


@pytest.mark.parametrize("size, ranks", [(6, 2), (5, 2), (7, 3), (9, 1), (4, 4)])
def test_pieces_of_a_batch_are_the_batch(size, ranks):
    pairs = Numbered(23)
    whole = epoch(pairs, batch_size=size, epoch=3)
    parts = [epoch(pairs, batch_size=size, epoch=3, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert {len(part) for part in parts} == {len(whole)}
    for step, batch in enumerate(whole):
        own = [part[step] for part in parts]
        lengths = [len(piece.index) for piece in own]
        assert sum(lengths) == size and max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)
        assert torch.equal(torch.cat([piece.index for piece in own]), batch.index)
        assert torch.equal(torch.cat([piece.image[0] for piece in own]), batch.image[0])
        assert torch.equal(torch.cat([piece.text[0] for piece in own]), batch.text[0])
        assert [piece.first for piece in own] == [sum(lengths[:rank]) for rank in range(ranks)]
        assert {piece.of for piece in own} == {size}


def test_a_rank_resumes_in_the_middle_of_an_epoch():
    pairs = Numbered(23)
    whole, rest = epoch(pairs, rank=1, ranks=2), epoch(pairs, rank=1, ranks=2, skip=2)
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize(
    "rank, ranks, message", [(2, 2, "give 0 to 1"), (-1, 2, "rank=-1"), (0, 6, "batch_size=5 cannot be shared by 6")]
)
def test_shares_that_are_none(rank, ranks, message):
    with pytest.raises(ClipeduError, match=message):
        share(5, rank, ranks)


def test_pixels_that_are_held_are_taken_instead_of_read(monkeypatch):
    pairs = Numbered(23)
    held, plain = pairs.pixels(torch.arange(23)), epoch(pairs)
    monkeypatch.setattr(pairs, "pixels", None)
    assert all(same(a, b) for a, b in zip(plain, epoch(pairs, precomputed=Precomputed(held)), strict=True))


# foils


@pytest.fixture(scope="module")
def scenes():
    from clipedu.data.scenes.dataset import Scenes
    from clipedu.data.tokenizer import train_tokenizer

    pairs = Scenes("train", 60)
    return pairs.tokenize(train_tokenizer([caption for row in range(60) for caption in pairs.captions(row)], 24))


KINDS = ("place", "relation", "binding")


def test_each_caption_has_its_foil_beside_it(scenes):
    plain, foiled = epoch(scenes, batch_size=20), epoch(scenes, batch_size=20, foil_kinds=KINDS)
    told = 0
    for one, two in zip(plain, foiled, strict=True):
        assert torch.equal(one.index, two.index) and torch.equal(one.image[0], two.image[0])
        (ids, mask), (both, masks) = one.text, two.text
        longest = ids.shape[1]
        assert torch.equal(both[:, 0, :longest], ids) and torch.equal(masks[:, 0, :longest], mask)
        assert not masks[:, 0, longest:].any() and masks.any((0, 1)).all()
        told += int((both[:, 0] != both[:, 1]).any(1).sum())
    assert 0.5 * 60 < told < 0.9 * 60  # generic captions claim nothing of these kinds


def test_foils_come_from_seed_epoch_and_row_alone(scenes):
    whole = epoch(scenes, batch_size=20, foil_kinds=KINDS)
    for rank in range(2):
        own = epoch(scenes, batch_size=20, foil_kinds=KINDS, rank=rank, ranks=2)
        for one, part in zip(whole, own, strict=True):
            read = one.text[0][10 * rank : 10 * rank + 10]
            assert torch.equal(read[..., : part.text[0].shape[2]], part.text[0])
    assert same(whole[2], epoch(scenes, batch_size=20, foil_kinds=KINDS, skip=2)[0])
    others = (
        epoch(scenes, batch_size=20, foil_kinds=KINDS, epoch=1),
        epoch(scenes, batch_size=20, foil_kinds=KINDS, seed=9),
    )
    assert not any(same(whole[0], other[0]) for other in others)


def test_foils_are_read_by_a_tokenizer_of_their_own(scenes):
    """A batch may be made in a thread while the run's tokenizer is in use; a fast tokenizer works for one at a time."""
    epoch(scenes, batch_size=20, foil_kinds=KINDS)
    own, other = scenes._own_tokenizer.tokenizer, scenes._tokenized.tokenizer.tokenizer
    assert own.backend_tokenizer is not other.backend_tokenizer


def test_pairs_without_foils_have_the_caption_twice():
    batch = epoch(Numbered(20), foil_kinds=KINDS)[0]
    assert torch.equal(batch.text[0][:, 0], batch.text[0][:, 1]) and torch.equal(
        batch.text[1][:, 0], batch.text[1][:, 1]
    )
