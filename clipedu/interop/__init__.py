"""Released models: open_clip's and transformers' as a `DualEncoder`.

    model = clipedu.adopt("open_clip:ViT-B-32", weights="laion2b_s34b_b79k")
    model = clipedu.adopt("hf:openai/clip-vit-base-patch32")

`adoption.py` is where to begin: it finds the library of a name, a folder or a file, asks `from_open_clip.py` or
`from_transformers.py` for the parts of the model, and puts them together. What comes out has the numbers of its library: its own
modules run inside, under their own names.
"""

from clipedu.interop.adoption import adopt

__all__ = ["adopt"]
