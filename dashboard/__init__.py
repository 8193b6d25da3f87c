"""The dashboard: pages over the marts of the current release. Computes nothing itself."""
