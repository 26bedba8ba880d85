"""Studies that are killed again and again at random moments: what is there in the end must be the undisturbed study."""
