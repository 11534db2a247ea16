"""Pairs of images and captions: embedded scenes, shards on disk, and how a batch of them is drawn."""
