"""Tiny random models of open_clip and transformers as they are released: weights, settings and tokenizer in a folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

WORDS = "a photo of red blue green yellow star ring circle square triangle small large above below left right and plain"
SIZE, LENGTH = 32, 16  # of the images of most of them, pixels; of their texts, tokens
VIT = {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": SIZE}
TEXT = {"layers": 2, "width": 32, "heads": 4, "context_length": LENGTH}
PLAIN = {"no_causal_mask": True, "pool_type": "last"}  # as SigLIP and CLIPA: all places are seen, the last is taken
TIMM = {"timm_pool": "", "timm_proj": "linear"}

OPEN_CLIP: dict[str, dict[str, Any]] = {
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {"vision_cfg": VIT | {"layers": [1, 1, 1, 1], "width": 8, "patch_size": None}, "text_cfg": TEXT},
    "clipa": {
        "vision_cfg": VIT | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT | PLAIN,
    },
    "coca": {
        "custom_text": True,
        "multimodal_cfg": {"width": 32, "context_length": LENGTH, "vocab_size": 49408, "layers": 1, "heads": 4},
        "vision_cfg": VIT | {"output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
    },
    "timm_vit": {
        "custom_text": True,
        "vision_cfg": TIMM | {"timm_model_name": "test_vit", "image_size": 160},
        "text_cfg": TEXT,
    },
    "timm_siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "nonscalar_logit_scale": True,
        "vision_cfg": {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none", "image_size": 160},
        "text_cfg": TEXT | PLAIN | {"proj_bias": True},
        "embed_dim": 96,
    },
    "timm_eva": {
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "eva02_tiny_patch14_224",
            "timm_pool": "token",
            "timm_proj": None,
            "image_size": 224,
        },
        "text_cfg": TEXT,
    },
    "timm_convnext": {
        "vision_cfg": TIMM | {"timm_model_name": "test_convnext", "image_size": 160},
        "text_cfg": TEXT,
    },
}


def save_open_clip(folder: Path, kind: str, **changes: Any) -> Any:
    """Save a model of `OPEN_CLIP` as open_clip does; returns the library's own."""
    import open_clip
    from safetensors.torch import save_file

    config = {"embed_dim": 24} | OPEN_CLIP[kind] | changes
    preprocess = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "resize_mode": "squash", "interpolation": "bicubic"}
    folder.mkdir(parents=True)
    settings = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    torch.manual_seed(3)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    spread(model)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return model.eval()


def spread(model: torch.nn.Module) -> None:
    """Draw the numbers that begin at zero or one, too: a fault in them would not be seen."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def save_transformers(folder: Path, kind: str, *, processor: bool = True) -> Any:
    """Save a model of `TRANSFORMERS` with tokenizer and image processor; returns the library's own."""
    torch.manual_seed(3)
    tokenizer, images, model = TRANSFORMERS[kind]()
    spread(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if processor:
        images.save_pretrained(folder)
    return model.eval()


def word_tokenizer(begin: str | None, end: str, pad: str) -> Any:
    """A tokenizer of whole words, in lower case, with its own marks of beginning and end."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = list(dict.fromkeys([pad, "<unk>", *([begin] if begin else []), *WORDS.split(), end]))
    backend = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, words.index(mark)) for mark in (begin, end) if mark]
    backend.post_processor = processors.TemplateProcessing(
        single=" ".join(filter(None, (begin, "$A", end))), special_tokens=marks
    )
    names = {"bos_token": begin} if begin else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        pad_token=pad,
        eos_token=end,
        model_max_length=LENGTH,
        padding_side="right",
        **names,
    )


def _tower(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4} | more


def _clip() -> tuple[Any, Any, Any]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tokenizer = word_tokenizer("<|startoftext|>", "<|endoftext|>", "<|endoftext|>")
    text = _tower(
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = _tower(image_size=SIZE, patch_size=8)
    size = {"height": SIZE, "width": SIZE}
    return (
        tokenizer,
        CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size),
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)),
    )


def _siglip(second: bool) -> tuple[Any, Any, Any]:
    import transformers as hf

    tokenizer = word_tokenizer(None, "</s>", "<pad>" if second else "</s>")
    text = _tower(vocab_size=len(tokenizer), max_position_embeddings=LENGTH, pad_token_id=tokenizer.pad_token_id)
    if second:  # for any shape
        config = hf.Siglip2Config(text_config=text, vision_config=_tower(num_patches=16, patch_size=8))
        return tokenizer, hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16), hf.Siglip2Model(config)
    config = hf.SiglipConfig(text_config=text, vision_config=_tower(image_size=SIZE, patch_size=8))
    return tokenizer, hf.SiglipImageProcessor(size={"height": SIZE, "width": SIZE}), hf.SiglipModel(config)


def _dual(text: str = "bert") -> tuple[Any, Any, Any]:
    import transformers as hf

    tokenizer = word_tokenizer("[CLS]", "[SEP]", "[PAD]")
    settings = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH + 2,
        "pad_token_id": tokenizer.pad_token_id,
    }
    settings |= {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4} if text == "distilbert" else _tower()
    config = hf.VisionTextDualEncoderConfig(
        vision_config=hf.AutoConfig.for_model("vit", **_tower(image_size=SIZE, patch_size=8)).to_dict(),
        text_config=hf.AutoConfig.for_model(text, **settings).to_dict(),
        projection_dim=24,
    )
    processor = hf.ViTImageProcessor(
        size={"height": SIZE, "width": SIZE}, image_mean=[0.1, 0.2, 0.3], image_std=[0.3, 0.4, 0.5]
    )
    return tokenizer, processor, hf.VisionTextDualEncoderModel(config)


TRANSFORMERS = {
    "clip": _clip,
    "siglip": partial(_siglip, False),
    "siglip2": partial(_siglip, True),
    "dual": _dual,
    "dual_roberta": partial(_dual, "roberta"),
    "dual_distilbert": partial(_dual, "distilbert"),
}


def embeddings(
    library: Any, folder: Path, pixels: torch.Tensor, texts: list[str], dtype: torch.dtype = torch.float32
) -> Any:
    """The library's own embeddings, [N, D] and [T, D]: with its tokenizer and, of transformers, its image processor."""
    with torch.no_grad():
        if hasattr(library, "visual"):
            import open_clip

            settings = library.visual.preprocess_cfg
            mean, std = (torch.tensor(settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
            image = library.encode_image(((pixels / 255 - mean) / std).to(dtype))
            return image, library.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(texts))
        from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerFast

        siglip = library.config.model_type.startswith("siglip")  # pads to the end, and does not mask
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except AttributeError:  # transformers 5.0 looks for a SentencePiece file, whatever was saved
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        read = tokenizer(
            texts, padding="max_length" if siglip else True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        given = {name: read[name] for name in ("input_ids", "attention_mask") if name == "input_ids" or not siglip}
        seen = AutoImageProcessor.from_pretrained(folder)(list(pixels), return_tensors="pt")
        seen = {name: value.to(dtype) if value.is_floating_point() else value for name, value in seen.items()}
        return library.get_image_features(**seen).pooler_output, library.get_text_features(**given).pooler_output
