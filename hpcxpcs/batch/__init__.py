"""Batch schedulers: job scripts, submission, and what the queue knows of a job."""
