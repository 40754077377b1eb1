"""Regular languages and byte machines: patterns, automata, intersection, distances."""
