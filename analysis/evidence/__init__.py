"""Records as tidy frames and cells; statistics over seeds."""
