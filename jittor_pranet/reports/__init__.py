"""The HTML reports of an evaluation, and what is drawn over images."""
