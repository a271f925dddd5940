"""A file's bytes to a model that may be run."""
