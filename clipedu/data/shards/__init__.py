"""Shards: WebDataset archives on disk, read, decoded once and cached."""
