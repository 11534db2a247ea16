"""Helpers below everything: errors, registries, files, devices, the Hub."""
