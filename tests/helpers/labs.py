"""Looking into a lab without a browser, and an experiment that a lab trains in a second."""

from collections.abc import Iterator

import ipywidgets

from clipedu.config.experiment import Experiment

SMALL = Experiment(train_size=64, batch_size=16, epochs=1, embedding_dim=16, text_encoder="distilbert-nano")


def small_data(base: Experiment = SMALL, images: int = 40):
    """The data of a small experiment, with fewer images to score than usual."""
    from clipedu.data.scenes.dataset import Scenes
    from clipedu.training.datasets import Data, build_tokenizer, load_train

    train = load_train(base)
    return Data(
        train=train,
        tokenizer=build_tokenizer(base, train),
        scored=[Scenes("val", images), Scenes("zeroshot", images)],
    )


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG image."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def parts_of(lab: ipywidgets.Box) -> Iterator[ipywidgets.Widget]:
    """All widgets inside a lab, at any depth."""
    for part in lab.children:
        yield part
        yield from parts_of(part) if isinstance(part, ipywidgets.Box) else ()
