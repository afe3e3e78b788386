"""The report: finished runs beside the printed figures of studies, and what their differences can show."""
