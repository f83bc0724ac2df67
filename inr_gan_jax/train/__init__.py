"""The recipe, one training step, and the life of a run: its loop, workdir, lease and monitor.

Images are data/'s business, measuring them metrics/'s, what stays on disk storage/'s.
"""
