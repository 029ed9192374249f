"""The paper's own tables, with notes, in five formats."""
