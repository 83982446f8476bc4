"""One picture's bytes to `[C, H, W]` uint8 or an error: upright, no value clipped, the same from every decoder."""
