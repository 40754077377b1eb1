"""Constraints by kind: regex, choice, predicate, smiles, template, combinations, adapters."""
