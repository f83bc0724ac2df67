"""A published checkpoint as a workdir of ours, and a generator as files for others.

How foreign files are read is foreign/'s business; here is what is written.
"""
