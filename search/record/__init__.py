"""What a study leaves on disk: folders, records, locks, and the events that coordinator and workers exchange."""
