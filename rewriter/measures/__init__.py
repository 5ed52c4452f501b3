"""Measures of shown pages: diversity of a page, of a catalogue's exposure, and of a person's pages over time."""
