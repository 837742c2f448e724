"""`farthing evaluate`: policies judged on a labelled set."""
