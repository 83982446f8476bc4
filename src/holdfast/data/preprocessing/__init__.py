"""From an opened picture to the network's input: planned crops, flips, points beside pixels, normalising."""
