"""Drafting and verification: chains and trees of guesses, draft lengths, drafts without a model."""
