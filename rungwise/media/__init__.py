"""Video files: containers, packets, timestamps, decoding, color, limits, playlists, and the ffmpeg runner."""
