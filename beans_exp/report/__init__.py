"""The report: finished runs side by side with the reported figures, and what the difference between them can mean."""
