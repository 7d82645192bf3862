"""Cases as training samples: prepared, cached, augmented and put into batches.

What is random in a sample depends on its number and the seed alone, whatever the workers, the cache
or the number of processes.
"""
