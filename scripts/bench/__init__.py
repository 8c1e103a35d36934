"""How fast it is, and whether a GPU computes what a CPU does."""
