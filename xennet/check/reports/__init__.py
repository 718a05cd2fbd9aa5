"""What a run of the suite tells: as text, JSON, JUnit XML and HTML, all from the same results."""
