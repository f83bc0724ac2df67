"""What command lines are made of: flags that commands share, their texts, and how commands run.

For the doors alone (the commands at the top of the package, and `__main__` of a room): no room
knows flags.
"""
