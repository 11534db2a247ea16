"""Sources of shards: manifests, fetching, verification, own images."""
