"""What a spectrum is: the survey's pixel grid, the LAMOST readers, the mask policy, the packed store."""
