"""What a merge tells about itself: measures of every layer, report.html, and the model card."""
