"""The commands behind main.py, one file each: what a person types, sees and scripts."""
