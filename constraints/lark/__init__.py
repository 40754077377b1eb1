"""Context-free grammars: stock Lark grammars as a byte machine, llguidance's dialect, GBNF."""
