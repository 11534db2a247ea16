"""What is not finite is named: the term of the loss, or the layer where it began."""

import math
from types import SimpleNamespace

import pytest
import torch

from clipedu.losses import LossOutput
from clipedu.training.datasets import load_training_data
from clipedu.training.divergence import loss_fault, step_fault
from clipedu.training.records import Numbers, Record
from clipedu.training.setup import prepare
from clipedu.utils.finite import NotFinite


def spoiled_gradient(trainer, name: str, step: int, value: float) -> None:
    """From a step on, the gradient of a layer is not finite, and so are those of all layers before it."""
    parameter = dict(trainer.model.named_parameters())[name]
    parameter.register_hook(lambda gradient: gradient * value if trainer.step >= step else gradient)


def spoiled_state(trainer, name: str, step: int) -> None:
    """What comes back through a layer is not finite from a step on, as where a backward pass itself fails."""
    module = trainer.model.get_submodule(name)

    def spoil(module, inputs, output):
        if trainer.step >= step and output.requires_grad:
            output.register_hook(lambda gradient: gradient * math.nan)

    module.register_forward_hook(spoil)


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("text_projection.weight", math.nan, "NaN"), ("image_projection.weight", math.inf, "inf|NaN")],
)
def test_the_step_and_the_layer_of_a_gradient_are_named(quick, clip, name, value, word):
    trainer = prepare(quick.replace(clip_grad=clip), load_training_data(quick), progress=False)
    spoiled_gradient(trainer, name, 2, value)
    with pytest.raises(NotFinite, match=rf"^the gradient of '{name}' \(({word})\) is not finite at step 2 \(lr"):
        list(trainer.run())


def test_of_many_layers_the_one_is_named_where_it_began(quick):
    trainer = prepare(quick.replace(accumulate=2), load_training_data(quick), progress=False)
    spoiled_state(trainer, "text_encoder.transformer.layer.0.output_layer_norm", 1)
    first = "text_encoder.transformer.layer.0.output_layer_norm.bias"
    with pytest.raises(
        NotFinite, match=rf"^the gradient of '{first}' \(NaN\), and of \d+ of the \d+ other layers, is not"
    ):
        list(trainer.run())


def test_a_loss_names_its_term_and_what_it_was_computed_from(quick):
    trainer = prepare(quick.replace(loss="cyclip", learn_temperature=True), load_training_data(quick), progress=False)
    parameter = trainer.loss.logit_scale

    def spoil(*_):
        if trainer.step == 1:
            with torch.no_grad():
                parameter.fill_(math.nan)

    trainer.optimizer.register_step_post_hook(spoil)
    with pytest.raises(
        NotFinite, match=r"^the loss \(its term 'clip' is NaN; temperature is NaN\) is not finite at step 2 "
    ):
        list(trainer.run())


def test_words():
    assert loss_fault({"a": math.inf, "b": 1.0}, {"image_norm": math.nan}) == (
        "the loss (its term 'a' is inf; image_norm is NaN)"
    )
    assert loss_fault({}, {}) == "the loss"


def test_a_step_names_its_loss_or_else_its_gradient(quick):
    layers = prepare(quick, load_training_data(quick)).monitor.layers

    def words(loss):
        output = LossOutput(torch.tensor(loss), {"clip": torch.tensor(loss)})
        numbers = Numbers(output, SimpleNamespace(parts=["all"], latest=torch.ones(3, 1)))
        return step_fault(Record(3, 0, 8, 0.1, 0.0, 0.0, numbers), layers, torch.ones(len(layers)))

    assert words(math.nan).startswith("the loss (its term 'clip' is NaN) is not finite at step 3 (lr 0.1, loss nan)")
    assert words(1.0).startswith("the gradient is not finite at step 3")
