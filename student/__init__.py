"""Small models and their export."""
