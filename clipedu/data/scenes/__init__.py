"""Scenes: captioned pictures that need no download, drawn when they are asked for."""
