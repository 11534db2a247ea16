"""The registry of encoders, as the catalog fills it."""

from clipedu.models import ENCODERS
from clipedu.models.registry import VISION_TRANSFORMERS, encoder_names


def test_names_by_kind():
    images, texts = encoder_names("timm"), encoder_names("transformers")
    assert [*images, *texts] != list(ENCODERS) and {*images, *texts} == set(ENCODERS) and not {*images} & {*texts}
    assert "test_resnet" in images and "distilbert-nano" in texts and set(VISION_TRANSFORMERS) < set(images)
