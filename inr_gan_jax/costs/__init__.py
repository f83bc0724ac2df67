"""What a compiled program costs: operations, memory, bytes moved and exchanged, a bound on time.

Read from the program, which is not run, and of any program: nothing here knows what is computed.
"""
