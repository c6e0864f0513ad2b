"""What is in a video file: its container, packets, clock, pixels and color; and the one runner of ffmpeg."""
