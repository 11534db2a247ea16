"""Training loops that ours is measured against, generators of steps.

    bare         what one writes first: batches by indexing, the towers, open_clip's `ClipLoss`, `AdamW(fused=True)`. It
                 records nothing, and its data lie ready in memory
    open_clip    its loop: pictures decoded and captions tokenized by a DataLoader's workers, bf16, a learned temperature
    course       the course's way: float16 with a GradScaler, captions tokenized in the loop, and the loss fetched at each step

All train a copy of the same towers on the same pairs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.batches import Precomputed
from clipedu.data.pairs import Pairs
from clipedu.data.tokenizer import Tokenizer
from clipedu.models import DualEncoder
from clipedu.utils.errors import ClipeduError

WORKERS = 4  # processes of a DataLoader
QUALITY = 90  # of the JPEGs that it decodes

Loop = Callable[[Experiment, Pairs, DualEncoder, Precomputed, float], Iterator[None]]


def bare_loop(
    experiment: Experiment, pairs: Pairs, model: DualEncoder, precomputed: Precomputed, temperature: float
) -> Iterator[None]:
    """Make the steps of a bare PyTorch loop, without end.

    Args:
        experiment: batch size, learning rate, decay, augmentation and precision.
        pairs: tokenized.
        model: the towers; it is trained.
        precomputed: features of frozen encoders; else pixels are read once, before the first step.
        temperature: of the loss.
    """
    ex, device = experiment, model.device
    pixels = pairs.pixels(torch.arange(len(pairs))) if precomputed.image is None else precomputed.image
    ids, mask, owner = pairs.all_tokens()
    lengths, first = mask.sum(1), torch.searchsorted(owner, torch.arange(len(pairs) + 1))
    optimizer = torch.optim.AdamW(_groups(model, ex.weight_decay), lr=ex.lr, fused=True)
    loss, scale = clip_loss(), torch.tensor(1 / temperature, device=device)
    step = 0
    model.train()
    while True:
        for index in torch.randperm(len(pairs)).split(ex.batch_size):
            if len(index) < ex.batch_size:
                continue
            image = pixels[index.to(pixels.device)].to(device, non_blocking=True)
            if not ex.image_frozen:
                image = augment(image, ex.augment, seed=ex.seed, step=step)
            caption = first[index] + torch.randint(2**31, (len(index),)) % (first[index + 1] - first[index])
            if precomputed.text is not None:
                text: tuple[Tensor, ...] = (precomputed.text[0][caption.to(device)],)
            else:
                longest = int(lengths[caption].max())
                text = tuple(x[caption, :longest].to(device, non_blocking=True) for x in (ids, mask))
            with torch.autocast(device.type, torch.bfloat16, enabled=_bf16(ex, device)):
                image_embedding, text_embedding = model((image,), text)
            total = loss(normalize(image_embedding.float()), normalize(text_embedding.float()), scale)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            step += 1
            yield


def open_clip_loop(
    experiment: Experiment, pairs: Pairs, model: DualEncoder, precomputed: Precomputed, temperature: float
) -> Iterator[None]:
    """Make the steps of open_clip's loop, without end.

    The arguments are those of `bare_loop`.
    """
    ex, device = experiment, model.device
    scale = nn.Parameter(torch.tensor(1 / temperature).log().to(device))
    groups = [*_groups(model, ex.weight_decay), {"params": [scale], "weight_decay": 0.0}]
    optimizer, loss = torch.optim.AdamW(groups, lr=ex.lr), clip_loss()
    model.train()
    for pixels, (ids, mask) in _decoded(pairs, ex, model.tokenizer):
        image = pixels.to(device, non_blocking=True)
        text = (ids.to(device, non_blocking=True), mask.to(device, non_blocking=True))
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            image_embedding, text_embedding = model((image,), text)
            total = loss(normalize(image_embedding), normalize(text_embedding), scale.exp())
        total.backward()
        optimizer.step()
        with torch.no_grad():
            scale.clamp_(0, 4.6052)
        yield


def course_loop(
    experiment: Experiment, pairs: Pairs, model: DualEncoder, precomputed: Precomputed, temperature: float
) -> Iterator[None]:
    """Make the steps of the course's loop, without end.

    The arguments are those of `bare_loop`.
    """
    ex, device = experiment, model.device
    optimizer = torch.optim.AdamW(_groups(model, ex.weight_decay), lr=ex.lr)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    loss, scale, seen = clip_loss(), 1 / temperature, 0.0
    model.train()
    for pixels, captions in _decoded(pairs, ex):
        image = pixels.to(device)
        text = tuple(x.to(device) for x in _tokens(model.tokenizer, captions))
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16):
            image_embedding, text_embedding = model((image,), text)
            total = loss(normalize(image_embedding.float()), normalize(text_embedding.float()), scale)
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        seen += total.item()
        yield


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed, rest = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _bf16(experiment: Experiment, device: torch.device) -> bool:
    return experiment.precision == "bf16" or (experiment.precision == "auto" and device.type == "cuda")


def clip_loss() -> nn.Module:
    """Return open_clip's `ClipLoss`.

    Raises:
        ClipeduError: it is not installed.
    """
    try:
        from open_clip.loss import ClipLoss
    except ImportError:
        raise ClipeduError(
            "the bench measures against open_clip, which is not installed: pip install open_clip_torch"
        ) from None
    return ClipLoss()


def _tokens(tokenizer: Tokenizer, captions: list[str]) -> tuple[Tensor, Tensor]:
    ids, lengths = tokenizer.encode(captions)
    longest = int(lengths.max())
    mask = torch.arange(longest) < torch.from_numpy(lengths)[:, None]
    return torch.from_numpy(ids[:, :longest].astype("int64")), mask


class _Jpegs(torch.utils.data.Dataset):
    """The usual dataset: JPEGs that are decoded and changed when they are asked for."""

    def __init__(self, pairs: Pairs, image_size: int):
        from PIL import Image
        from torchvision import transforms

        self.files, self.captions = [], [pairs.captions(row) for row in range(len(pairs))]
        for row in range(len(pairs)):
            picture, file = pairs.pixels(torch.tensor([row]))[0].permute(1, 2, 0).numpy(), io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
            self.files.append(file.getvalue())
        crop = transforms.RandomResizedCrop(image_size, scale=(0.5, 1.0))
        self.change = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.PILToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, str]:
        from PIL import Image

        choice = int(torch.randint(len(self.captions[row]), ()))
        return self.change(Image.open(io.BytesIO(self.files[row]))), self.captions[row][choice]


class _Collate:
    """Join rows to a batch: pixels, and captions, or their ids and mask if there is a tokenizer."""

    def __init__(self, tokenizer: Tokenizer | None):
        self.tokenizer = tokenizer

    def __call__(self, rows: list[tuple[Tensor, str]]) -> tuple[Tensor, Any]:
        captions = [caption for _, caption in rows]
        return torch.stack([pixels for pixels, _ in rows]), _tokens(
            self.tokenizer, captions
        ) if self.tokenizer else captions


def _decoded(pairs: Pairs, experiment: Experiment, tokenizer: Tokenizer | None = None) -> Iterator[tuple[Tensor, Any]]:
    """Yield batches of a DataLoader without end."""
    on_gpu = torch.cuda.is_available()
    loader = torch.utils.data.DataLoader(
        _Jpegs(pairs, experiment.image_size),
        experiment.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS if on_gpu else 0,
        collate_fn=_Collate(tokenizer),
        pin_memory=on_gpu,
        persistent_workers=on_gpu,
    )
    while True:
        yield from loader
