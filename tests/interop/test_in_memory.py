"""A model in memory: it is adopted as a saved one is, and stays as it is."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import nn

from clipedu import ClipeduError, adopt
from tests.helpers.released import OPEN_CLIP, SIZE

pytestmark = pytest.mark.xdist_group("interop")
TEXTS = ["a red star", "a small blue ring"]


def own_tokenizer(kind, folder):
    if kind in OPEN_CLIP:
        import open_clip

        return open_clip.get_tokenizer(f"local-dir:{folder}")
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(folder)
    except AttributeError:  # transformers 5.0 looks for a SentencePiece file, whatever was saved
        return PreTrainedTokenizerFast.from_pretrained(folder)


def own_processor(folder):
    from transformers import AutoImageProcessor

    return AutoImageProcessor.from_pretrained(folder)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "coca", "timm_siglip", "clip", "siglip2", "dual"])
def test_it_is_what_a_saved_one_is(kind, released):
    folder, library = released(kind)
    before = {name: value.clone() for name, value in library.state_dict().items()}
    given = {} if kind in OPEN_CLIP else {"image_processor": own_processor(folder)}
    model, saved = adopt(library, tokenizer=own_tokenizer(kind, folder), **given), adopt(folder)
    pixels = torch.randint(0, 256, (2, 3, model.image_size, model.image_size))
    torch.testing.assert_close(model.encode_image(pixels), saved.encode_image(pixels), rtol=0, atol=1e-6)
    torch.testing.assert_close(model.embed_texts(TEXTS), saved.embed_texts(TEXTS), rtol=0, atol=1e-6)
    for fact in ("image_size", "resize", "logit_scale", "logit_bias", "widths", "text_padding", "parts"):
        assert getattr(model, fact) == getattr(saved, fact), fact
    assert torch.equal(model.mean, saved.mean) and model.tokenizer.identity() == saved.tokenizer.identity()
    names = {name.removeprefix("image_encoder.").removeprefix("text_encoder.") for name in model.state_dict()}
    assert names == {name.removeprefix("image_encoder.").removeprefix("text_encoder.") for name in saved.state_dict()}
    with torch.no_grad():
        next(model.parameters()).zero_()  # it is a copy
    torch.testing.assert_close(library.state_dict(), before, rtol=0, atol=0, equal_nan=True)  # CoCa leaves some undrawn


def test_wrapped_half_and_trained(released):
    folder, library = released("vit")
    tokenizer, whole = own_tokenizer("vit", folder), adopt(folder)
    compiled = nn.Module()  # as torch.compile makes it, without the seconds that it takes
    compiled._orig_mod = library
    for wrapped in (nn.DataParallel(library), compiled):
        assert torch.equal(adopt(wrapped, tokenizer=tokenizer).embed_texts(TEXTS), whole.embed_texts(TEXTS))
    half = adopt(copy.deepcopy(library).half(), tokenizer=tokenizer)
    assert {weight.dtype for weight in half.parameters()} == {torch.float32}
    trained = copy.deepcopy(library).train()
    with torch.no_grad():
        trained.text_projection.add_(1.0)
    model = adopt(trained, tokenizer=tokenizer)
    assert not model.training and trained.training
    assert not torch.equal(model.embed_texts(TEXTS), whole.embed_texts(TEXTS))


def test_without_settings_of_images_the_usual_ones_are_taken(released, caplog):
    import open_clip

    folder, library = released("clip")
    with caplog.at_level(logging.WARNING, logger="clipedu"):
        adopt(library, tokenizer=own_tokenizer("clip", folder))
        assert "the CLIPModel in memory comes without its image processor: mean (0.48145466" in caplog.text
        vision = open_clip.CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=SIZE)
        bare = open_clip.CLIP(8, vision, open_clip.CLIPTextCfg(width=16, heads=2, layers=1))
        model = adopt(bare, tokenizer=open_clip.get_tokenizer("ViT-B-32"))
    assert "the CLIP in memory does not say how its images are made: mean (0.48145466" in caplog.text
    assert (model.image_size, model.resize) == (SIZE, "crop")


def test_a_processor_is_tokenizer_and_image_processor(released, caplog):
    from transformers import CLIPProcessor

    folder, library = released("clip")
    both = CLIPProcessor(own_processor(folder), own_tokenizer("clip", folder))
    with caplog.at_level(logging.WARNING, logger="clipedu"):
        adopt(library, tokenizer=both)
    assert "image processor" not in caplog.text


def test_a_tokenizer_of_ones_own_for_a_folder(released, tmp_path):
    import shutil

    folder, _ = released("clip")
    shutil.copytree(folder, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("token*"):
        file.unlink()
    tokenizer = own_tokenizer("clip", folder)
    assert torch.equal(
        adopt(tmp_path / "bare", tokenizer=tokenizer).embed_texts(TEXTS), adopt(folder).embed_texts(TEXTS)
    )


def test_what_cannot_be_adopted(released):
    (clip, hf), (vit, library) = released("clip"), released("vit")
    theirs, own = own_tokenizer("clip", clip), own_tokenizer("vit", vit)
    meta, result = copy.deepcopy(hf).to("meta"), copy.deepcopy(hf)
    result.more = result.logit_scale * 2  # not a leaf: torch does not copy it
    for model, given, message in [
        (library, {}, r"^the CLIP in memory does not say which tokenizer it has: .*tokenizer=open_clip.get_tokenizer\(NAME\)"),
        (hf, {}, r"tokenizer=AutoTokenizer.from_pretrained\(NAME\)"),
        (library, {"tokenizer": theirs}, "is no tokenizer of open_clip: take open_clip.get_tokenizer"),
        (hf, {"tokenizer": own}, "tokenizer=SimpleTokenizer is no tokenizer of transformers: take AutoTokenizer"),
        (hf, {"tokenizer": "words"}, "tokenizer=str is no tokenizer of transformers"),
        (hf, {"tokenizer": theirs, "image_processor": 3}, "image_processor=int is no image processor of transformers"),
        (library, {"tokenizer": own, "image_processor": own_processor(clip)}, "image_processor has no effect on a model of open_clip"),
        (library, {"tokenizer": own, "weights": "random"}, "^weights='random' has no effect on a model in memory"),
        (nn.Linear(2, 2), {"tokenizer": own}, "^the Linear in memory cannot be adopted: a model in memory is a CLIP, Custom"),
        (hf.vision_model, {"tokenizer": theirs}, "in memory cannot be adopted"),
        (adopt(clip), {"tokenizer": theirs}, "the DualEncoder in memory needs no adopting"),
        (meta, {"tokenizer": theirs}, "^the CLIPModel in memory has no weights: they are on the device 'meta'"),
        (result, {"tokenizer": theirs}, "^the CLIPModel in memory cannot be copied to float32"),
        (type(hf), {"tokenizer": theirs}, "must be a name, a folder or file, or a model in memory: an object, not its class"),
        (3, {}, "^model=3 must be a name"),
    ]:  # fmt: skip
        with pytest.raises(ClipeduError, match=message):
            adopt(model, **given)


def test_a_tokenizer_with_longer_texts_than_the_model_reads(released):
    import open_clip

    with pytest.raises(
        ClipeduError, match="makes texts of 77 tokens, and the model reads 16: the tokenizer is another model's"
    ):
        adopt(released("vit")[1], tokenizer=open_clip.get_tokenizer("ViT-B-32"))
