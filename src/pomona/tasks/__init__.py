"""What "better" means in one run: translation, metrics as per-item statistics, paired bootstrap over items."""
