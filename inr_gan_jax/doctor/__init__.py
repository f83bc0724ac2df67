"""What this machine has, and what training will cost on it or on TPUs that are not here."""
