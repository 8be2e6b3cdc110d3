"""Binding files: the whole interface between this package and NFDHCPD or the responder."""
