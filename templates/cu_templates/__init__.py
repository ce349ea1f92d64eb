"""The report templates and style sheet of cu-cert: data files, no code."""
