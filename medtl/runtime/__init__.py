"""The machine and the process that medtl runs in.

Atomic writing of files, the run folder, the user's cache, the console and its tables,
devices, memory, processes, signals and threads. Nothing here knows what an image is. Imports
:mod:`medtl.errors` alone; everything else may import it.
"""
