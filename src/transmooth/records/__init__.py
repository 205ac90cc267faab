"""What certification observed: records (Parquet) and the journal of a running job; logs in the field's format."""
