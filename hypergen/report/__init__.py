"""Tables, plots and pages: they draw plain results and know nothing of how these were made."""
