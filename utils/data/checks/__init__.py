"""Checks of whole data sets before hours are spent on them."""
