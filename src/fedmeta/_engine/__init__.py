"""How a cohort of clients of unequal sizes becomes few compiled programs."""
