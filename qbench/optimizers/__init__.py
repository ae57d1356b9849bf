"""Training rules over torch.optim."""
