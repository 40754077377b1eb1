"""Engines of other projects behind the cursor interface."""
