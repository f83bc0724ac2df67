"""What this machine has, and what training will cost on it or on machines that are not here.

How a program's cost is read is costs/'s business; here is what to do about it.
"""
