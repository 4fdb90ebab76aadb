"""Programs that are killed, starved and fed with rubbish at random, and what must hold all the same."""
