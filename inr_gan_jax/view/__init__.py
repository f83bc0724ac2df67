"""Looking at functions: the application that zooms into them, and a page that does so alone.

Its pixels are render/'s; here is what shows them.
"""
