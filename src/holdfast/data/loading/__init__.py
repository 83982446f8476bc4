"""Batches in an order that is a pure function of (seed, epoch), from worker processes or without."""
