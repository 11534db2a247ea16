"""A trained model over a set of pairs: embeddings, features, attention."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "embed_images": "embed",
        "embed_captions": "embed",
        "embed_pairs": "embed",
        "attention_maps": "attention",
        "token_norms": "attention",
    },
)
