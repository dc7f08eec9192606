"""A transport with the recorded grammar of a real OpenPBS 23.06.06 server. It is not a PBS.

qsub, qstat, qdel, qrerun and qsig are programs that keep a queue in a folder and run jobs as processes of this machine:
ids, refusals, states, exit codes, JSON and environment are what a real server was seen to give. It proves that the
program understands that grammar; it cannot prove that a real server does what this one does. From the documentation
rather than seen: the texts of most refusals.
"""
