"""A prior, a posterior, a method and a task that are no part of Laconic.

Nothing is imported here: the task must not bring torch into a process that only scores a file.
"""
