"""Populations: resampling, potentials, critics, and processes for slow functions."""
