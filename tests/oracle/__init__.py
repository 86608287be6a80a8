from pathlib import Path

MANIFEST = Path(__file__).parents[2] / "spec" / "explored.json"
"""What was explored, with its counts."""
