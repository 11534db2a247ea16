"""From an experiment to gradient steps: its parts set up, and the loop."""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Trainer": "trainer",
        "Record": "trainer",
        "NotFinite": "trainer",
        "train": "setup",
        "prepare": "setup",
        "load_train": "datasets",
        "load_training_data": "datasets",
        "TrainingData": "datasets",
        "build_tokenizer": "datasets",
    },
)
