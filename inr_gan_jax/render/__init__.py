"""An image is a function, and this room evaluates it anywhere: views, tiles, films, files.

`view` and `tiles` are what writers of files need, `image` is what users hold. Given parameters of
coordinate networks; where those come from (models, checkpoints, data) is not known here.
"""
