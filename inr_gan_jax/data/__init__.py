"""Images in: sources, the input pipeline, and the tool that prepares a data set.

Knows no jax, no networks and no configuration: shapes are told.
"""
