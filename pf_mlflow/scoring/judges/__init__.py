"""Judges: language models that say of a line whether its answer is good. Imported only where one is asked for."""
