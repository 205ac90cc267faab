"""From records to numbers, tables and figures.  Nothing here runs a model."""
