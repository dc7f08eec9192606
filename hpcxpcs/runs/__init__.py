"""A run on disk: its plan, who works on what, sealed results, events and status; read this first."""
