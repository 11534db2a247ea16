"""Scenes: captioned images, drawn on demand without a download."""
