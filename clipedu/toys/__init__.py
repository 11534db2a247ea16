"""Small problems that can be understood completely.

A batch of similarities, a landscape of two weights, permutations of patches, tasks on windows of patches.
"""
