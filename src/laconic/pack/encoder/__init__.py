"""The encoder's decisions. Nothing here is part of the format."""
