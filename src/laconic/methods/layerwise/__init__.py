"""A trained network decided layer by layer on calibration inputs: moments, sensitivities, the search."""
