"""The columns of the report's tables, by subject; a column that shows a metric takes its words from `metrics`."""
