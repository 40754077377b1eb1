"""Automata over tokens, for constraints on canvases."""
