"""Both encoders as ONNX graphs, with what texts and images need.

    image_model.onnx   pixel_values float32 [B, 3, S, S], normalised            -> image_embeds [B, D]
    text_model.onnx    input_ids, attention_mask int64 [B, L]                   -> text_embeds [B, D]

B and L are free. Embeddings are tangent vectors of any length, as clipedu has them: how they are compared, in which geometry and with which
temperature, is in each file's metadata.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu import __version__
from clipedu.exports.reading import check_tokens, image_processor, library_tokenizer, transformers_tokenizer
from clipedu.exports.release import Release, check_equal
from clipedu.utils.errors import ClipeduError, shorten, without_trace
from clipedu.utils.hub import quiet

IMAGE, TEXT = "image_model.onnx", "text_model.onnx"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
FACTS = "clipedu"  # of the metadata: a JSON object


class ImageModel(nn.Module):
    """The image side of a model: normalised pixels -> tangent vectors."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed pixels [B, 3, S, S] -> [B, D]."""
        return self.model.project_image(self.model.image_encoder(pixel_values))


class TextModel(nn.Module):
    """The text side of a model: token ids and mask -> tangent vectors."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed ids [B, L] and mask [B, L], 1 for a token -> [B, D]."""
        return self.model.encode_text(input_ids, attention_mask.bool())


def write_onnx(release: Release, folder: Path, where: str) -> None:
    """Write both encoders for onnxruntime and others.

    Args:
        release: the model.
        folder: where to.
        where: what the model will be called; not used, its files do not say where they are.
    Raises:
        ClipeduError: onnx, onnxscript or onnxruntime are not installed, an encoder that torch cannot export, or embeddings that are
            not equal.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ClipeduError(
            f"--to onnx needs {' and '.join(missing)}, not installed here: pip install 'clipedu[export]'"
        )
    pixels = release.model.normalise(release.pixels()).contiguous()
    ids, mask = padded(release)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=max(release.length, 2))
    both: dict[int, Any] = {0: batch} if release.model.text_padding is not None else {0: batch, 1: length}
    _write(
        release, ImageModel(release.model), (pixels,), ("image_embeds", "pixel_values"), [{0: batch}], folder / IMAGE
    )
    _write(
        release,
        TextModel(release.model),
        (ids, mask),
        ("text_embeds", "input_ids", "attention_mask"),
        [both, both],
        folder / TEXT,
    )
    with quiet():
        image_processor(release).save_pretrained(folder)
        if transformers_tokenizer(release) is not None:
            tokenizer = library_tokenizer(release)
            tokenizer.save_pretrained(folder)
            check_tokens(release, type(tokenizer).from_pretrained(folder, local_files_only=True))
    what = f"{release.name} for ONNX"
    check_equal(release, run(folder / IMAGE, pixels), run(folder / TEXT, ids, mask), what)
    ends = [ids.shape[1] if release.model.text_padding is not None else int(length) for length in mask.sum(1)]
    single = [run(folder / TEXT, ids[i : i + 1, :end], mask[i : i + 1, :end]) for i, end in enumerate(ends)]
    check_equal(
        release,
        torch.cat([run(folder / IMAGE, one[None]) for one in pixels]),
        torch.cat(single),
        f"{what}, one at a time,",
    )


def lines_onnx(release: Release, where: str, hub: bool) -> str:
    """Return code that runs the graphs and compares a picture with two texts."""
    fetch = f"snapshot_download({json.dumps(where)})" if hub else json.dumps(where)
    snapshot = "from huggingface_hub import snapshot_download\n" if hub else ""
    imports, tokens = _token_lines(release)
    return f"""\
import onnxruntime
{snapshot}{imports}from PIL import Image
from transformers import AutoImageProcessor

folder = {fetch}
images, texts = (onnxruntime.InferenceSession(f"{{folder}}/{{side}}_model.onnx") for side in ("image", "text"))
pixels = AutoImageProcessor.from_pretrained(folder)(Image.open("photo.jpg"), return_tensors="np")
tokens = {tokens}

image_embeds = images.run(None, {{"pixel_values": pixels["pixel_values"]}})[0]
text_embeds = texts.run(None, {{given.name: tokens[given.name] for given in texts.get_inputs()}})[0]"""


def _token_lines(release: Release) -> tuple[str, str]:
    """Return the import and the expression that make tokens of texts."""
    given = '["a red star", "a blue circle"]'
    tokenizer = transformers_tokenizer(release)
    if tokenizer is None:  # open_clip's own, whose words are in that library: no folder or repository is asked for them
        return "import open_clip\n", f'{{"input_ids": {_open_clip_tokenizer(release)}({given}).numpy()}}'
    fast = getattr(tokenizer, "backend_tokenizer", None) is not None
    kind = "PreTrainedTokenizerFast" if fast else type(tokenizer).__name__
    padding = "True" if release.model.text_padding is None else '"max_length"'
    options = f'padding={padding}, truncation=True, return_tensors="np"'
    return f"from transformers import {kind}\n", f"{kind}.from_pretrained(folder)({given}, {options})"


def _open_clip_tokenizer(release: Release) -> str:
    """Return the expression that makes a tokenizer of open_clip's own."""
    library: Any = getattr(release.model.tokenizer, "library", None)
    clean = library.clean_fn.__name__.removeprefix("_clean_")
    return f"open_clip.SimpleTokenizer(context_length={release.length}, clean={clean!r})"


def padded(release: Release) -> tuple[Tensor, Tensor]:
    """Return ids and mask of the release's texts, int64 [T, L].

    They are padded as the model needs them.
    """
    ids, mask = release.tokens()
    if release.model.text_padding is not None:
        length, fill = release.model.text_padding
        more = (0, length - ids.shape[1])
        mask = nn.functional.pad(mask, more)
        ids = nn.functional.pad(ids, more).masked_fill(~mask, fill)
    return ids, mask.long()


def facts(release: Release) -> dict[str, Any]:
    """Return what the metadata of a graph say, as JSON can hold it."""
    geometry = release.model.geometry
    numbers = {name: round(float(value), 8) for name, value in geometry.watched().items()}
    scale = release.scale
    return {
        "clipedu": __version__,
        "geometry": release.geometry,
        **({"curvature": numbers["curvature"]} if "curvature" in numbers else _fixed_curvature(geometry)),
        "logit_scale": None if scale is None else scale.logit_scale,
        "logit_bias": release.bias,
        "image_size": release.image_size,
        "resize": release.resize,
        "image_mean": release.mean,
        "image_std": release.std,
        "text_length": release.length,
    }


def run(path: Path, *inputs: Tensor) -> Tensor:
    """Run a graph with onnxruntime.

    Args:
        path: of the graph.
        inputs: in its order.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]  # an encoder that reads no mask has none
    (out,) = session.run(None, {name: given.numpy() for name, given in zip(names, inputs, strict=False)})
    return torch.from_numpy(out)


def _fixed_curvature(geometry: Any) -> dict[str, float]:
    return {"curvature": round(float(geometry.curvature.detach()), 8)} if hasattr(geometry, "curvature") else {}


@torch.no_grad()
def _write(
    release: Release,
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[str, ...],
    shapes: list[dict[int, Any]],
    path: Path,
) -> None:
    """Export one encoder, with its metadata, and let onnx check it."""
    import onnx

    output, *given = names
    with _quiet():
        try:
            program: Any = torch.onnx.export(
                module.eval(),
                inputs,
                input_names=given,
                output_names=[output],
                dynamic_shapes=tuple(shapes),
                dynamo=True,
                verbose=False,
                external_data=False,
            )
        except Exception as error:  # noqa: BLE001  torch's exporter fails in many ways
            cause: BaseException = error
            while cause.__cause__ is not None:  # its own words are of steps, not of what is wrong
                cause = cause.__cause__
            reason = shorten((without_trace(cause) or type(cause).__name__).splitlines()[0], 200)
            raise ClipeduError(
                f"torch cannot export {path.stem} of {release.name} to ONNX: {reason}. Try another library with --to"
            ) from None
    check_sizes(program.model.graph.inputs, shapes, f"{path.stem} of {release.name}")
    program.model.metadata_props[FACTS] = json.dumps(facts(release))
    program.save(path, external_data=_is_large(module))
    onnx.checker.check_model(str(path), full_check=True)


def check_sizes(inputs: Any, shapes: list[dict[int, Any]], what: str) -> None:
    """Check that torch has left free the sizes that it was asked to.

    It writes a graph for one size of batch where an encoder computes with that number in Python, and says nothing.

    Args:
        inputs: of the graph, with their shapes.
        shapes: {place: dimension} of what is to be free, for each.
        what: is exported, for the error.
    Raises:
        ClipeduError: a size is a number.
    """
    for given, free in zip(inputs, shapes, strict=False):
        for place, dimension in free.items():
            if isinstance(given.shape[place], int):
                raise ClipeduError(
                    f"{what} cannot be exported to ONNX for any {dimension.__name__}, only for {given.shape[place]}: its encoder is not "
                    "made for it. Try --to transformers"
                )


def _is_large(module: nn.Module) -> bool:
    """Return whether the weights are more than one file of ONNX may hold, 2 GB."""
    return sum(value.numel() * value.element_size() for value in module.parameters()) > 1.9e9


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
