"""Every method of the survey (arXiv 2502.18036), one folder per family and one file per method."""
