"""The nouns: queries, answers, capabilities, actors, sessions, methods, tables. No I/O, no clock, no randomness."""
