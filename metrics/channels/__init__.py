"""What is measured of a set of images or losses: one file for each kind of reading. Arrays in, arrays out."""
