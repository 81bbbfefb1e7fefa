"""Bills: what a biller's host and the switch say to each other, and what the API is asked."""
