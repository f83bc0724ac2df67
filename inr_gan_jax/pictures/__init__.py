"""Pixels that are there: to 8 bits, into grids, and into the bytes of pictures and films.

Nothing here knows where pixels come from, and nothing here needs jax.
"""
