"""Everything that a training run can be told, and the YAML that says it. Imports no torch."""
