"""What all constraints share: cursors, vocabularies, masks, binding to rows, the compile cache."""
