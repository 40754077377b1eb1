"""One call from prompts to results: options, prompts, sessions, streaming, results."""
