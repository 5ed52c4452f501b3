"""Signal kinds, one file each: the values of a document, their affinities, the clause of an affinity and its description."""
