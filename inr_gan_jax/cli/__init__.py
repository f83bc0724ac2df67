"""What command lines are made of: all commands by name, flags that they share, how they run.

For the doors alone (the commands at the top of the package, and `__main__` of a room): no room
knows flags.
"""
