"""Traces to look at: in the terminal, and as one HTML page without network."""

from __future__ import annotations

from decodekit.view.page import page, tokens_html
from decodekit.view.story import Story, Token, story

__all__ = ["Story", "Token", "page", "story", "tokens_html"]
