"""Services by name: what `vecbench services` brings up, and what a later command finds running."""
