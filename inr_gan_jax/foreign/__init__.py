"""Files that other programs wrote: read without running or trusting anything in them.

From bytes (`unpickle`, with `opcodes` and `tensors`) to a configuration and arrays of ours
(`published`, with `settings` and `weights`). What is made of those belongs to convert/.
"""
