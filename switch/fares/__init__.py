"""What a ride costs: versioned fare tables, and the pure function that prices a day of taps."""
