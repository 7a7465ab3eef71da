"""Types of an exported asset, and its dimensions."""
