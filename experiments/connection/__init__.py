"""The connection between DDPM and NCSN, measured and shown on one page."""
