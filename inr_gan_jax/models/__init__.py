"""The paper: a hypernetwork turns a latent into the parameters of a coordinate function.

`hypernet` (latent to parameters), `modulation` (FMM), `inr` (the coordinate function), `fourier`
(what it sees); the rest serves them, or is the baseline and the discriminator. Pure networks: no
files, no data, no training, no command.
"""
