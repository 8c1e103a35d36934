"""Pages: what a run, a sweep, a search, an analysis or a comparison has found, as HTML or Markdown.

A builder for each kind makes a `Page` of plain results; `html` and `markdown` write it.
"""
