"""Several models on one text: combiners, routers, adaptive bundles, and their calibration."""
