"""What every checkpoint of a study is looked at with: prompts, seeds, photos held out, masks."""
