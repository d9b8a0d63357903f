"""Tables in and out: Parquet, JSONL, CSV and Hugging Face dataset folders, local or s3://, lazily, with bad rows named."""
