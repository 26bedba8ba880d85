"""The study file, read strictly: settings, search space, photos held out, and what is known of them before torch."""
