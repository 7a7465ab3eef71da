"""Cut a mesh into charts and pack them into an atlas."""
