"""Images, scans and videos on disk: finding, reading, checking and preparing them for a network."""
