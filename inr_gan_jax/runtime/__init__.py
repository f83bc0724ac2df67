"""What a run runs on: devices, processes, the mesh, signals that end it, and traces of it.

Nothing here knows what is computed: no networks, no images, no files of ours.
"""
