"""Is a title's ladder sound? `rungwise ladder check`.

Read in this order: `run.py` (the whole road), `rungs.py` (a table of rungs and what is found in it), `advice.py` (which
to keep, drop and add; savings between codecs), `compare.py` (the report; a reference metric beside it; gates),
`sources.py` and `playlists.py` (where rungs come from), `text.py`, `page.py` and `plots.py` (how it is told).
"""
