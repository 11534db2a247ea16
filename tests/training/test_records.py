"""Records: the numbers of a step, looked at at once or a step later, are the same."""

from types import SimpleNamespace

import pytest
import torch

from clipedu.losses import LossOutput
from clipedu.training.datasets import load_training_data
from clipedu.training.records import Numbers, Record
from clipedu.training.setup import prepare
from clipedu.utils.finite import NotFinite

NORMS = torch.tensor([[5.0, 3.0, 4.0], [1.5, 0.9, 1.2], [0.5, 0.3, 0.4]], dtype=torch.float64)


class Elsewhere:
    """Norms on another device, as far as a record can tell."""

    device, dtype = SimpleNamespace(type="other"), torch.float64

    def flatten(self):
        return NORMS.flatten()


def record_of(latest, loss=2.0):
    output = LossOutput(
        torch.tensor(loss), {"a": torch.tensor(0.25), "b": torch.tensor(1.75)}, watch={"image_norm": torch.tensor(7.0)}
    )
    numbers = Numbers(output, SimpleNamespace(parts=["all", "image", "text"], latest=latest))
    return Record(3, 0, 8, 0.1, 1.0, 20.0, numbers)


@pytest.mark.parametrize(("latest", "here"), [(NORMS, True), (Elsewhere(), False)])
def test_numbers_by_name_and_whether_one_waits_for_them(latest, here):
    record = record_of(latest)
    assert record.numbers.are_here is here
    assert record.loss == 2.0 and record.terms == {"a": 0.25, "b": 1.75} and record.watch == {"image_norm": 7.0}
    assert record.norms == {
        "all": {"weight": 5.0, "gradient": 1.5, "update": 0.5},
        "image": {"weight": 3.0, "gradient": 0.9, "update": 0.3},
        "text": {"weight": 4.0, "gradient": 1.2, "update": 0.4},
    }
    assert record.numbers.are_here and record.is_finite


@pytest.mark.parametrize("row", [0, 1, 2, None])
def test_what_is_not_finite(row):
    norms = NORMS.clone()
    if row is not None:
        norms[row, 0] = float("nan")
    assert not record_of(norms, loss=2.0 if row is not None else float("inf")).is_finite


def late_steps(quick, seen):
    """A trainer that looks late, and what happens: a step begun, numbers looked at."""
    trainer = prepare(quick, load_training_data(quick), progress=False)
    trainer.late = True
    step, look = trainer._train_on, trainer._check_unread

    def begun(*arguments):
        seen.append(f"step {trainer.step}")
        return step(*arguments)

    def looked():
        if trainer._unread is not None:
            seen.append(f"look {trainer._unread[0].step}")
        look()

    trainer._train_on, trainer._check_unread = begun, looked
    return trainer


def test_numbers_are_looked_at_while_the_next_step_is_under_way_and_those_of_the_last_at_once(quick):
    seen: list[str] = []
    trainer = late_steps(quick, seen)
    records = list(trainer.run())
    assert seen == ["step 0", *(word for n in range(1, 8) for word in (f"step {n}", f"look {n - 1}")), "look 7"]
    at_once = list(prepare(quick, load_training_data(quick), progress=False).run())
    assert [(r.step, r.loss, r.norms) for r in records] == [(r.step, r.loss, r.norms) for r in at_once]


def test_a_fault_is_named_by_its_own_step_and_layer_though_the_next_is_made(quick):
    trainer = late_steps(quick, seen := [])
    weight = trainer.model.text_projection.weight
    weight.register_hook(lambda gradient: gradient * float("nan") if trainer.step == 2 else gradient)
    with pytest.raises(
        NotFinite, match=r"^the gradient of 'text_projection.weight' \(NaN\) is not finite at step 2 \("
    ):
        list(trainer.run())
    assert seen[-2:] == ["step 3", "look 2"]


def test_a_checkpoint_is_not_made_of_a_step_that_nobody_has_looked_at(quick):
    trainer = late_steps(quick, [])
    weight = trainer.model.text_projection.weight
    weight.register_hook(lambda gradient: gradient * float("nan") if trainer.step == 2 else gradient)
    steps = trainer.run()
    for _ in range(3):
        next(steps)
    with pytest.raises(NotFinite, match="at step 2"):
        trainer.check_finite()
