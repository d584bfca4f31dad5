"""Tasks: questions with a prompt, an answer extractor, a metric and a version; one data file each, and their loader."""
