"""The production run of a study's pick, in the files of our trainer, of sd-scripts and of the kohya_ss GUI."""
