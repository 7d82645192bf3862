"""What the arms of a study took, and what they left: steps, the source's score, calibration."""
