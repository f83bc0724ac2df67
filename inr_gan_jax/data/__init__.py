"""Images in: sources, the input pipeline, and the tool that prepares a data set. Knows no jax."""
