"""Training on Lightning: recipes, the run and its folder, comparisons."""
