"""Looking at a network: gradients of every layer, firing rates, pictures."""
