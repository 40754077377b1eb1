"""Images from visual autoregressive models."""
