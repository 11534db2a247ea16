"""Which class names and templates a zero-shot set is scored with.

Scores with other names or templates are not comparable, so what was used is kept beside the score: `prompt_facts` makes it a part
of the metrics, and `prompts_text` makes a line of that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipedu.data.class_names import imagenet_classes, open_clip_templates
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs

NAMED_BY = {
    "": "the set's own class names",
    "classnames.txt": "class names of the set's classnames.txt",
    "clipedu": "clipedu's ImageNet names",
    "open_clip": "open_clip's ImageNet names",
}
"""Values of `Pairs.named_by`, and what they mean; their places are the values of "zeroshot_names" in the metrics."""


def choose_prompts(pairs: Pairs, class_names: str, templates: str) -> Pairs:
    """Give a labelled set other class names or templates, in place.

    Args:
        pairs: with labels.
        class_names: "clipedu" leaves them, "open_clip" takes its ImageNet names.
        templates: "clipedu" leaves them, "open_clip" takes its 80.
    Returns:
        the set.
    Raises:
        ClipeduError: the classes are not ImageNet's, or open_clip is not installed.
    """
    if class_names == "open_clip":
        if pairs.named_by != "clipedu":
            raise ClipeduError(
                f"class_names='open_clip' are those of ImageNet, and {pairs.name}/{pairs.split} has other classes "
                f"({NAMED_BY[pairs.named_by]}): leave class_names out, or give ImageNet with --zeroshot-data"
            )
        pairs.class_names, pairs.named_by = imagenet_classes("open_clip"), "open_clip"
    if templates == "open_clip":
        pairs.templates = open_clip_templates()
    return pairs


def prompt_facts(pairs: Pairs) -> dict[str, float]:
    """Return which names and how many templates a set is scored with.

    Returns:
        "zeroshot_names", a place in `NAMED_BY`, and "zeroshot_templates"; nothing for a set with names and templates of its own.
    """
    if not pairs.named_by and pairs.templates is type(pairs).templates:
        return {}
    return {"zeroshot_names": list(NAMED_BY).index(pairs.named_by), "zeroshot_templates": len(pairs.templates)}


def prompts_text(metrics: Mapping[str, float]) -> str:
    """Write what `prompt_facts` kept as words; "" where it kept nothing."""
    if "zeroshot_names" not in metrics:
        return ""
    names = list(NAMED_BY.values())[int(metrics["zeroshot_names"])]
    return f"{names}, {metrics['zeroshot_templates']:.0f} templates"
