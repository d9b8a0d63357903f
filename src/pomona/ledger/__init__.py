"""The accounts: what each lever cost and bought, against the ladder, as entries, tables and a page."""
