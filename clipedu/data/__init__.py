"""Pairs: embedded scenes, shards on disk, and batches of them."""
