"""Options of a run that takes less than a second."""

TINY = ["--train-size", "32", "--batch-size", "16", "--epochs", "1", "--embedding-dim", "16"]
