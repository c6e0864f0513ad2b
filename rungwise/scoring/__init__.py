"""How a video is scored: what is looked at (windows, frames, cutting, hdr), by whom (looking), and what comes of it."""
