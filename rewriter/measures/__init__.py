"""Measures of what people were shown: how diverse a page, a catalogue's exposure and a person's pages over time are."""
