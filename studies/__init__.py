"""Study files people run, and the demo world."""
