"""JSON Schema as a pushdown machine: a schema becomes a formula, a text is followed thread by thread, byte by byte.

`places` and `terms` read a document, `formula` pushes `not` down to literals and lists the threads of a type, `rules`,
`strings` and `numbers` say what one thread allows, `space` whether anything does, `machine`, `parts` and `scalars` are
the places of a text. `compile` puts them together.
"""
