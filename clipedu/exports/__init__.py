"""Models in the form of transformers, open_clip, timm and ONNX.

    clipedu.export("runs/mine", "transformers")            writes runs/mine/export-transformers, with a model card
    clipedu export runs/mine --to open_clip --push-to-hub me/my-clip

`writing.py` is where to begin: it opens a model (`release.py`), lets one of the `to_*.py` write it, and adds the card. Each of
them loads what it wrote by the library that it is for, and compares embeddings, before the folder appears.
"""
