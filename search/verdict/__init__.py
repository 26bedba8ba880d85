"""What a study found: the decision, its sentences, best/, sheet, report and artifacts."""
