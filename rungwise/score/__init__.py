"""Score videos with an exported model.

Reading order: `scorer.py` (model and score), `score_video.py` (one video), `views.py` and `windows.py` (which frames
and patches), `frames.py` (decoding), `patch_crop.py` (patches as RGB).
"""
