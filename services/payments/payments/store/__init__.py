"""The cellar: every statement of the book and of what is shown of it."""
