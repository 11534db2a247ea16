"""A model for transformers.

Where one of its own classes fits, the model is written as that; else a file of code goes with the weights.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from clipedu.exports import native
from clipedu.exports.reading import save_reading
from clipedu.exports.release import Release, check_equal, dropped_norms, own_tower
from clipedu.exports.timm_tower import TimmTower
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet

PADDED = {"padding": True, "truncation": True}  # the code pads further by itself where an encoder needs it
CODE = "modeling_clipedu"  # a module of this package, which is copied beside the weights


def write_transformers(release: Release, folder: Path, where: str) -> None:
    """Write a model for `AutoModel.from_pretrained`.

    Args:
        release: the model.
        folder: where to.
        where: what the model will be called; not used, its files do not say where they are.
    Raises:
        ClipeduError: towers that cannot be written so, or embeddings that are not equal when it is loaded again.
    """
    if native.fits(release):
        native.write(release, folder)
        return
    tower = own_tower(release)
    _check(release)
    with quiet():
        model = _assembled(release, tower, _module(Path(__file__).with_name(f"{CODE}.py")))
        model.save_pretrained(folder)
    shutil.copyfile(Path(__file__).with_name(f"{CODE}.py"), folder / f"{CODE}.py")
    save_reading(release, folder)
    with quiet():
        loaded = _module(folder / f"{CODE}.py").ClipeduModel.from_pretrained(folder, local_files_only=True)
    ids, mask = release.tokens()
    with torch.no_grad():
        image = loaded.get_image_features(release.model.normalise(release.pixels()))
        check_equal(release, image, loaded.get_text_features(ids, mask.long()), f"{release.name} for transformers")


def lines_transformers(release: Release, where: str, hub: bool) -> str:
    """Return code that loads the model and compares a picture with two texts."""
    own = native.fits(release)
    code, given = "" if own else ", trust_remote_code=True", native.call_options(release) if own else PADDED
    options = ", ".join(
        f"{name}={json.dumps(value) if isinstance(value, str) else value}" for name, value in given.items()
    )
    return f"""\
from PIL import Image
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained({json.dumps(where)}{code})
processor = AutoProcessor.from_pretrained({json.dumps(where)}{code})

inputs = processor(text=["a red star", "a blue circle"], images=Image.open("photo.jpg"), {options}, return_tensors="pt")
model(**inputs).logits_per_image.softmax(dim=-1)"""


def _check(release: Release) -> None:
    """Refuse what the code does not compute."""
    model: Any = release.model
    if model.text_pooling == "own" or not hasattr(model.text_encoder, "config"):
        kind = type(model.text_encoder).__name__
        raise ClipeduError(f"the text encoder of {release.name} ({kind}) is none of transformers: --to onnx takes any")
    for side in ("image", "text"):
        projection = getattr(model, f"{side}_projection")
        if not isinstance(projection, nn.Linear):
            raise ClipeduError(
                f"the {side} projection of {release.name} is no linear layer ({type(projection).__name__}): --to onnx takes any"
            )


def _assembled(release: Release, tower: TimmTower, code: ModuleType) -> Any:
    """Return the model of transformers with the weights."""
    model: Any = release.model
    text = model.text_encoder.config.to_dict()
    mask = tower.mask
    kept = None if mask is None else {"shape": list(mask.shape), "dtype": str(mask.dtype).removeprefix("torch.")}
    config = code.ClipeduConfig(
        image_architecture=tower.architecture,
        image_args=tower.args,
        image_mask=kept,
        image_size=release.image_size,
        dropped=[f"{side}.{name}" for side, name in dropped_norms(release).items()],
        text_config={key: value for key, value in text.items() if key not in ("_name_or_path", "transformers_version")},
        text_pooling=model.text_pooling,
        text_padding_index=_padding_index(model.text_encoder),
        text_padding=None if model.text_padding is None else list(model.text_padding),
        widths=[model.widths["image"], model.widths["text"]],
        embedding_dim=release.dim,
        projection_bias=[getattr(model, f"{side}_projection").bias is not None for side in ("image", "text")],
        geometry=release.geometry,
        logit_bias=release.bias is not None,
    )
    names = {f"Auto{kind}": f"{CODE}.Clipedu{'Config' if kind == 'Config' else 'Model'}" for kind in _AUTO}
    config.auto_map, config.architectures = names, ["ClipeduModel"]
    made = code.ClipeduModel(config).eval()
    state = dict(model.state_dict())
    if mask is not None:
        state["image_mask"] = mask
    scale = 1.0 if release.scale is None else release.scale.logit_scale
    state["logit_scale"] = torch.tensor(scale).log()
    if release.bias is not None:
        state["logit_bias"] = torch.tensor(release.bias)
    made.load_state_dict(state)
    return made


def _padding_index(encoder: nn.Module) -> int | None:
    """Return the one id of the padding token in an encoder's tables; some classes have one of their own in their code."""
    found = {index for module in encoder.modules() if isinstance(index := getattr(module, "padding_idx", None), int)}
    return found.pop() if len(found) == 1 else None


_AUTO = ("Config", "Model", "ModelForZeroShotImageClassification")


def _module(path: Path) -> ModuleType:
    """Import a copy of the code as a module of its own, as transformers does."""
    name = f"{CODE}_of_an_export"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # transformers looks its classes up by the name of their module
    spec.loader.exec_module(module)
    return module
