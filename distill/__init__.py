"""Losses, bitrate-group batches, the trainer, and the run from masters to the exported file."""
