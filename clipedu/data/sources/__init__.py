"""Sources: where shards come from: manifests, fetching from the hub, verifying, packing one's own."""
