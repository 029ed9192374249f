"""What `import repro` gives in a notebook, and the notebook that shows it."""
