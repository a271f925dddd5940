"""A trained network decided layer by layer on calibration inputs: moments, passes, sensitivities, the search."""
