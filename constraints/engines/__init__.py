"""Engines behind the cursor interface: grammars (llguidance), regular tables (outlines_core), finite lists (words)."""
