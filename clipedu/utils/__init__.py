"""Helpers that know nothing of clipedu: errors, registries, files, the hub, devices, statistics."""
