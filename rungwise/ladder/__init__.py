"""Bitrate ladders: made from masters, labeled, and checked.

Making: `sources.py` (masters), `make.py` (the ladder), `encode.py` (one rung), `label.py` and `pairing.py` (its VMAF).
Checking: `check.py`, `rungs.py` (what is wrong), `advice.py` (what to keep, drop and add), `compare.py` (a reference
metric beside it, gates), `encodes.py` (where rungs come from).
"""
