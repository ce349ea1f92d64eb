"""The gate's rooms: what a rule looks at, the rules, and one file for each form of the report."""
