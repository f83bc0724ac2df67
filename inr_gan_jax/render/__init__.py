"""Rendering: an image is a function, and this room evaluates it anywhere."""
