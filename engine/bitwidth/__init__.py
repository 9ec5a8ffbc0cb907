"""How many bits each expert gets: the plan file. Importance, bounds and the search that make plans come with `calibrate`."""
