"""The demo: the main job in blocks on the embedded models."""
