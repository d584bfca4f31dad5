"""Measuring ensembles: live runs over tasks, their reports, and the outcomes of members that methods are fitted on."""
