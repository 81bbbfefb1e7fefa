"""What people who work with rules see and do over HTTP: a process of its own."""
