"""Pages, pictures and texts of results."""
