"""Large models, offline: backbones, heads, and the soft-target cache."""
