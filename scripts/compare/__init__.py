"""Ways of doing one thing side by side, here and elsewhere."""
