"""What activations, starts and objectives do to training and to robustness."""
