"""Built-in tasks, registered in the entry-point group `decodekit.tasks` like those of third parties."""
