"""Where pairs come from: embedded scenes, shards on disk, and how a batch of them is drawn."""
