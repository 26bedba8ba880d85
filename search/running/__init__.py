"""A study at work: the coordinator, its workers, and what is shown meanwhile."""
