"""Models as scorers of rows: causal and masked language models over Hugging Face, their caches, loading."""
