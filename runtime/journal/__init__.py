"""The journal: every stimulus recorded, recovered and replayed."""
