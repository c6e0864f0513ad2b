"""Bitrate ladders: made from masters, labeled, and checked.

Making: `sources.py` (masters), `make.py` (the ladder), `encode.py` (one rung), `label.py` and `pairing.py` (its VMAF).
Checking: `check.py`; `encodes.py` (one title's encodes), `qualities.py` (their quality), `rungs.py` and `faults.py`
(records, faults), `advice.py` (what to keep, drop and add), `compare.py` (agreement of two metrics, gates).
"""
