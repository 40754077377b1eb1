"""The generation loop and what it is made of: rows, protocols, noise, selection, stopping."""
