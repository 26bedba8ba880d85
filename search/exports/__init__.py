"""The production run of a study's pick, in the files of our trainer and of other trainers."""
