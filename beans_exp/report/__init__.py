"""The report: finished runs beside the printed figures of studies, with tests of their differences."""
