"""What stays on disk or in a cloud: whole files, growing files, checkpoints, and paths to them.

Everything is written in one step or says how far it got. Nothing here knows what the bytes mean to
a generator: arrays are trees of arrays, pictures are bytes.
"""
