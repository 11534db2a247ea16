"""Metrics: every score with its key, heading, unit and definition."""

from __future__ import annotations

# What a table shows, in this order, of what the runs measured.
COLUMNS = {
    "tr@1": "TR@1",
    "ir@1": "IR@1",
    "top1": "top-1",
    "average": "average",
    "generality_within": "generality, within",
    "generality_pooled": "generality, pooled",
    "text_nearer_root": "text nearer root",
    "cone_captions": "captions in cone",
    "cone_captions_chance": "chance of it",
    "cone_images": "images in cone",
    "cone_images_chance": "chance of that",
    "modality_gap": "modality gap",
    "foil_place": "place told",
    "foil_relation": "relation told",
    "foil_binding": "binding told",
}


HEADINGS = {"tr@1": "TR@1", "ir@1": "IR@1", "top1": "top-1", "average": "average"}

DEFINITIONS = (
    "TR@k (text retrieval, image to text): share of images with one of their own captions among the k best-ranked captions.",
    "IR@k (image retrieval, text to image): share of captions whose own image is among the k best-ranked images.",
    "top-k (zero-shot classification): share of images whose class is among the k best, ranked by the class names alone.",
    "average: the course's score, the mean of TR@1, IR@1 and top-1 (of those that there are).",
    "chance: what a random ranking would score. A model near chance has learned nothing.",
    "s.e.: binomial standard error, how far another test set of this size would move the score (2 s.e.: 95 % of the time).",
)


WRONG = {
    "shape": "the shape of the first object",
    "colour": "the colour of the first object",
    "size": "the size of the first object",
    "background": "the background",
    "place": "where the object is",
    "relation": "how the objects stand to each other (above for below)",
    "binding": "whose colour is whose (the two objects exchange them)",
}

SHAPES = {
    "alignment": "mean squared distance of matched unit embeddings, 0 to 4: lower = pairs are closer",
    "uniformity": "log of the mean of exp(-2 x squared distance) within a modality, 0 or less: lower = better spread out",
    "modality_gap": "distance between the mean image and the mean caption, 0 to 2: 0 = the two clouds share their centre",
    "modality_distance": "distance between the prototypes of all images and of all captions, in the run's own geometry",
    "root_distance_image": "median distance of images to the root",
    "root_distance_text": "median distance of captions to the root",
    "text_nearer_root": "share of pairs whose caption is nearer to the root than its image; 0.5 = no order",
    "generality_within": "rank correlation of distance to the root with specificity, within a scene's six captions; chance 0",
    "generality_pooled": "the same over the captions of all scenes together",
    "cone_captions": "share of (generic, specific) captions of a scene with the specific one in the generic one's cone",
    "cone_captions_chance": "the same with a caption that does not follow: what cones of this width hold anyway",
    "cone_images": "share of (caption, its image) with the image in the caption's cone",
    "cone_images_chance": "the same with an image that does not fit",
    "cone_saturated": "share of captions whose cone is half the space, and holds any image",
    **{
        f"foil_{name}": f"true caption before one that is wrong in {what}, in percent; chance 50"
        for name, what in WRONG.items()
    },
}


SCORES = {"tr@1": "TR@1", "ir@1": "IR@1", "top1": "top-1", "average": "average"}
