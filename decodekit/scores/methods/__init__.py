"""The built-in scores, found through the entry-point group `decodekit.scores` like those of third parties."""
