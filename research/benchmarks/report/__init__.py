"""The report: figures, targets, Markdown, CSV and chart of what is in a store."""
