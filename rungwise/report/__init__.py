"""Pages, plots and texts of results. `page.py` renders `templates/`; `svg.py` draws all plots."""
