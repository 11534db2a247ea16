"""Probing: which questions about a scene can an image encoder answer?

The encoder is trained with labels and without captions. A CLIP model that does not distinguish "above" from "below" may
have an encoder that cannot represent it, or a loss that does not need it: among 128 captions few have the same objects.
Here the encoder is trained with a linear layer on its feature for each question, all together:

    place      where is the object, of nine places?                          scenes of one object, chance 1/9
    relation   how does A stand to B: left of, right of, above, below?       scenes of two objects, chance 1/4
    size       how large is A: small, medium, large?                         scenes of two objects, chance 1/3

A is the object whose colour comes first in the list of colours. So place depends on *where* a patch is, size which
patches *belong together*, relation both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from clipedu.data.scenes.captions import PLACES, RELATIONS
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.drawing import SIZES
from clipedu.models.image_encoders import feature_width
from clipedu.optim.schedule import learning_rate
from clipedu.utils.checks import checked_number
from clipedu.utils.finite import NotFinite, check_trained, finite_rows, model_fault

QUESTIONS = {"place": len(PLACES), "relation": len(RELATIONS), "size": len(SIZES)}  # name -> possible answers
BATCH, PIXEL = 128, 127.5


def answers(scenes: Scenes) -> dict[str, Tensor]:
    """Return the right answer to each question in every scene, int64 [N].

    It is -1 where the question does not apply.
    """
    a = scenes.attributes
    first = (a.colour[:, 1] < a.colour[:, 0]).long()  # which of the two objects is A
    relation = torch.where(first == 1, a.relation ^ 1, a.relation)
    size = a.size.gather(1, first[:, None])[:, 0]
    two = a.count == 2
    return {
        "place": torch.where(two, -1, a.place[:, 0]),
        "relation": torch.where(two, relation, -1),
        "size": torch.where(two, size, -1),
    }


def ask(
    encoder: nn.Module, *, seed: int = 0, steps: int = 300, lr: float = 1e-3, train_size: int = 16_000,
    test_size: int = 4_000, image_size: int = 32, device: str | torch.device = "cpu", progress: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Train an image encoder on all three questions, and test it.

    It is trained by AdamW, with a learning rate that rises for a tenth of the steps and falls along a cosine, gradients
    clipped at norm 1, and batches of 128.

    Args:
        encoder: pixels [B, 3, H, W], normalised to -1..1 -> features [B, F]. It is trained in place.
        seed: of the scenes, the order of batches and the linear layers.
        steps: gradient steps.
        lr: the peak of the learning rate.
        train_size: scenes to train on.
        test_size: scenes to test on.
        image_size: H and W, in pixels.
        device: where to train.
        progress: show a bar.

    Returns:
        the accuracy on other scenes, in percent, by question.
    Raises:
        ClipeduError: an lr that is no finite number from 0 on.
        NotFinite: a weight of the encoder, or after the training one of a linear layer, or a feature is NaN or infinite.
    """
    checked_number("lr", lr, at_least=0)
    if fault := model_fault(encoder):
        raise NotFinite(f"{fault} of the encoder is not finite: it can be asked nothing")
    train, test = (Scenes(split, size, image_size, seed) for split, size in (("train", train_size), ("val", test_size)))
    width = feature_width(encoder, image_size)
    noise = torch.Generator().manual_seed(seed)
    encoder = encoder.to(device).train()
    heads = nn.ModuleDict()
    for name, count in QUESTIONS.items():
        head = nn.Linear(width, count, device="meta").to_empty(device=device)
        with torch.no_grad():
            head.weight.copy_(torch.randn(count, width, generator=noise) / width**0.5)
            head.bias.zero_()
        heads[name] = head
    parameters = [p for p in (*encoder.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.02)
    pixels, right = train.pixels(torch.arange(train_size)).to(device), answers(train)
    right = {name: answer.to(device) for name, answer in right.items()}
    for step in tqdm(range(steps), desc="asking", disable=not progress, leave=False):
        rows = torch.randint(train_size, (BATCH,), generator=noise).to(device)
        feature = encoder(pixels[rows].float() / PIXEL - 1)
        losses = (cross_entropy(head(feature), right[name][rows], ignore_index=-1) for name, head in heads.items())
        loss = sum(losses, start=torch.zeros((), device=device))
        optimizer.param_groups[0]["lr"] = learning_rate(step, peak=lr, total=steps, warmup=steps // 10)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    for part, what in ((encoder, "the encoder"), (heads, "the linear layers")):
        check_trained(part, what, f"after {steps} steps (lr {lr:g})")
    return _score(encoder.eval(), heads, test, device)


@torch.no_grad()
def _score(encoder: nn.Module, heads: nn.ModuleDict, test: Scenes, device: str | torch.device) -> dict[str, float]:
    rows = torch.arange(len(test))
    feature = torch.cat([encoder(test.pixels(part).to(device).float() / PIXEL - 1) for part in rows.split(500)])
    feature = finite_rows(feature, "features of the scenes to test on", encoder)
    scores = {}
    for name, answer in answers(test).items():
        asked = answer >= 0
        scores[name] = 100 * (heads[name](feature).argmax(1).cpu() == answer)[asked].double().mean().item()
    return scores
