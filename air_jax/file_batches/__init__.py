"""Registration of many pairs of files: the list of pairs, their batches, the summary."""
