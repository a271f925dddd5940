"""Parts of a file as bytes: integers, names, tensor headers; and the limits of a reader."""
