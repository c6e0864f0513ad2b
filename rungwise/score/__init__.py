"""The scorer.

Read in this order: `scorer.py` (a model and a score), `score_video.py` (one file), `views.py` and `windows.py` (which
frames), `frames.py` (how they are decoded), `patch_crop.py` (what the model gets).
"""
