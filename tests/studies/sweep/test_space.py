"""What is varied: values and ranges, as words and in Python, and what is told of wrong ones."""

import pytest

from clipedu.studies.sweep.space import Range, Values, axes, axis, shown
from tests.helpers.errors import message_of


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lr=1e-4..1e-2:log", Range("lr", 1e-4, 1e-2, log=True)),
        ("warmup=0..1", Range("warmup", 0.0, 1.0)),
        ("clip_grad=0.5..2", Range("clip_grad", 0.5, 2.0)),
        ("batch-size=32..256:log", Range("batch_size", 32, 256, log=True, whole=True)),
        ("loss_options.gamma=0.1..0.9", Range("loss_options.gamma", 0.1, 0.9)),
        ("image_options.depth=1..4", Range("image_options.depth", 1, 4, whole=True)),
        ("lr=1e-4..1e-2:log:3", Values("lr", (1e-4, 1e-3, 1e-2))),
        ("lr=1e-4..1e-2:3:log", Values("lr", (1e-4, 1e-3, 1e-2))),
        ("weight_decay=0..0.1:3", Values("weight_decay", (0.0, 0.05, 0.1))),
        ("epochs=1..4:9", Values("epochs", (1, 2, 3, 4))),
        ("weight-decay= 0, 0.05 ,0.1", Values("weight_decay", (0.0, 0.05, 0.1))),
        ("loss=clip,sogclr", Values("loss", ("clip", "sogclr"))),
        ("learn_temperature=true,no", Values("learn_temperature", (True, False))),
        ("temperature=none,0.1", Values("temperature", (None, 0.1))),
        ("clean_captions=web,true", Values("clean_captions", ("web", True))),
        (
            "optimizer_options.betas=[0.9,0.95],[0.9,0.99]",
            Values("optimizer_options.betas", ([0.9, 0.95], [0.9, 0.99])),
        ),
        ('loss_options.form="a,b",c', Values("loss_options.form", ("a,b", "c"))),
        ("image_encoder=a..b,c", Values("image_encoder", ("a..b", "c"))),
        ("text_options.name=a..b", Values("text_options.name", ("a..b",))),
        ("lr=0.003", Values("lr", (0.003,))),
    ],
)
def test_words(word, expected):
    assert axes([word]) == {expected.name: expected}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lrr=1", "unknown setting 'lrr'. Did you mean 'lr'?"),
        ("lr", "'lr' is not NAME=VALUES: give values (lr=1e-3,3e-3) or a range (lr=1e-4..1e-2:log)"),
        ("lr=", "lr=: there is an empty value"),
        ("lr=1,,2", "lr=1,,2: there is an empty value"),
        ("lr=a..b", "lr=a..b is no range: write LOW..HIGH, LOW..HIGH:log or LOW..HIGH:log:POINTS, with numbers"),
        ("lr=1e-4..1e-2:lin", "lr=1e-4..1e-2:lin is no range"),
        ("lr=1e-4..1e-2:log:log", "is no range"),
        ("lr=1..2:3:4", "is no range"),
        ("lr=0..1:log", "lr=0..1:log: a logarithmic scale begins above 0"),
        ("lr=1..0.1", "lr=1..0.1: a range goes from a lower to a higher number"),
        ("lr=1..1", "a range goes from a lower to a higher number"),
        ("lr=1..inf", "a range goes from a lower to a higher number"),
        ("lr=1e-4..1e-2:1", "the number of points is from 2 to 1000"),
        ("lr=-1..1", "lr=-1 must be above 0"),
        ("warmup=0..2", "warmup=2 must be at most 1"),
        ("epochs=0.5..2", "epochs=0.5..2: epochs is a whole number, so the ends of its range are too"),
        ("batch_size=1,2", "batch_size=1 must be at least 2"),
        ("lr=x", "lr=x: 'x' is not a number"),
        ("lr=nan", "lr=nan must be a finite number"),
        ("lr=1,1.0", "lr: 1.0 is given twice"),
        ("precision=fp32,fp64", "unknown precision 'fp64'. Did you mean 'fp32'?"),
        ("seed=0,1", "seed is not varied as a setting: give the seeds of each trial with --seeds"),
        ("evaluate_every=1,2", "evaluate_every cannot be varied"),
        ("holdout=0.1,0.2", "holdout cannot be varied"),
        ("loss_options=1", "'loss_options' holds several options: name one of them, as in loss_options.NAME"),
        ("lr.x=1", "'lr.x': lr has no items"),
        ("loss=clip,clip", "loss: 'clip' is given twice"),
    ],
)  # fmt: skip
def test_what_is_told_of_wrong_words(word, message):
    assert message in message_of(axes, [word])


def test_in_python_lists_texts_and_ranges():
    found = axes({"lr": Range("lr", 1e-4, 1e-2, log=True), "weight_decay": [0, 0.1], "epochs": "1..3"})
    assert found["lr"].log and found["weight_decay"].values == (0.0, 0.1) and found["epochs"].whole
    assert axis("lr", Range("weight_decay", 1, 2)).name == "lr"
    assert "lr=[] is nothing to vary over" in message_of(axis, "lr", [])
    assert "lr=5 is nothing to vary over" in message_of(axis, "lr", 5)
    assert "lr='x' must be a float" in message_of(axis, "lr", [0.1, "x"])
    assert "cannot be kept in JSON" in message_of(axis, "loss_options.form", [{1, 2}])
    assert "loss is not a number, so it has no range" in message_of(axis, "loss", Range("loss", 1, 2))
    assert "varied settings: 'lr' is given twice" in message_of(axes, ["lr=1,2", "lr=3"])


def test_they_are_written_as_they_can_be_read():
    for word in ("lr=0.0001..0.01:log", "weight_decay=0,0.05,0.1", "temperature=none,0.1", "loss=clip,sogclr"):
        ((name, one),) = axes([word]).items()
        assert str(one) == word and axes([str(one)]) == {name: one}
    assert shown([0.9, 0.99]) == "[0.9, 0.99]" and shown(1 / 3) == "0.3333"
