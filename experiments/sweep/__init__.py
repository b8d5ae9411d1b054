"""Many runs from one command: a grid, or a list of overrides, and a page that compares them."""
