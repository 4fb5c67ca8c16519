"""Further places for the site, away from this machine: a store of objects, a server over SFTP, a git branch.

settings    what an operator chooses for each
places      makes a place from its settings and the environment's secrets
"""
