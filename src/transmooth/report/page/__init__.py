"""The page of a study, or of one network's records: one HTML file that needs no network and no other file."""
