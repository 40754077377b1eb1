"""What can be read off finished runs: acceptance, diagnostics of particles, deferral curves, token weights."""
