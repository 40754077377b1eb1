"""SQL statements over one database: a byte machine, its scopes, masks and completions."""
