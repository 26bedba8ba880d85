"""Files in which people keep tables, read as data frames."""
