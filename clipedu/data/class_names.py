"""Names of ImageNet's classes, and prompts to put a class name in.

Zero-shot classification compares an image with one text a class. A bare word is a poor text: "crane" is a bird and a
machine, and captions are seldom one word long. So each class has one name of its own, and each name is put into several
prompts whose embeddings are averaged (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

IMAGENET_CLASSES = 1000

PHOTO_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up of a {}.",
    "a picture that shows a {}.",
    "a small {} seen from far away.",
    "a blurry picture of a {}.",
    "a {}, photographed by an amateur.",
)

# Classes whose first name in WordNet another class has too (Cardigan and cardigan are one to a text encoder that lower-cases).
_CLEARER = {134: "crane bird", 264: "Cardigan Welsh corgi", 517: "construction crane", 639: "tank suit"}


def imagenet_classes() -> list[str]:
    """List the 1,000 class names of ImageNet-1k, in order of the index.

    All differ in lower case.

    Each is the first of the class's names in WordNet ("tench, Tinca tinca" gives "tench"), but where two classes share it.
    """
    from timm.data import ImageNetInfo

    names = ImageNetInfo("imagenet-1k").label_descriptions(detailed=False, as_dict=False)
    return [_CLEARER.get(index, name.split(",")[0].strip()) for index, name in enumerate(names)]
