"""Recall beside one product and the course's loop: the same scores, and the table holds what was measured."""

import pytest
import torch

from clipedu.bench import retrieval
from clipedu.bench.measure import in_fresh_process
from clipedu.bench.retrieval import CONTENDERS, bench_retrieval, call_of, course_retrieval
from clipedu.utils.errors import ClipeduError


def test_the_table_holds_what_was_measured():
    lines = []
    rows = bench_retrieval(60, dim=8, threads=1, write=lines.append)
    assert [row["contender"] for row in rows] == list(CONTENDERS)
    assert rows[0]["ratio"] == 1 and all(row["ratio"] == row["seconds"] / rows[0]["seconds"] for row in rows)
    text = "\n".join(lines)
    assert "60 images and 300 captions, D = 8" in text and "1 of " in text
    for row in rows:
        assert f"| {row['contender']} | {row['seconds']:.3f} | **{row['ratio']:.2f}** |" in text


def test_the_courses_loop_finds_what_a_product_shows():
    image = torch.eye(6)
    text = image.repeat_interleave(5, 0)
    assert set(course_retrieval(image, text).values()) == {100.0}
    text = text.roll(5, 0)  # each image's captions are those of the one before
    assert course_retrieval(image, text)["tr@1"] == 0


def test_scores_that_differ_are_an_error(monkeypatch):
    monkeypatch.setattr(retrieval, "course_retrieval", lambda image, text: {"tr@1": 12.5})
    with pytest.raises(ClipeduError, match="^tr@1 is .* by clipedu and 12.5 by the course's loop$"):
        bench_retrieval(20, dim=4, write=lambda line: None)


def test_memory_is_that_of_tiles_and_of_the_whole_table():
    what = {"images": 1500, "dim": 8, "device": "cpu", "threads": 1}
    held = {
        name: in_fresh_process("clipedu.bench.retrieval", what | {"name": name}, name)["bytes"]
        for name in ("product", "clipedu")
    }
    assert held["product"] > 30 * 2**20 and held["clipedu"] < 25 * 2**20  # 1,500 x 7,500 numbers are 43 MiB


def test_calls_repeat():
    call = call_of("clipedu", 30, 4, "cpu")
    assert call() == call() and call()["retrieval_captions"] == 150


@pytest.mark.parametrize("name", ["images", "dim", "threads"])
def test_sizes_are_checked(name):
    with pytest.raises(ClipeduError, match=f"^{name} must be at least 1, got 0$"):
        bench_retrieval(**{name: 0})
