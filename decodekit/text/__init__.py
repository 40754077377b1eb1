"""Text and tokens: decoding a few tokens at a time, the bytes of every token, canonical tokenisation."""
