"""What only this project's own study needs."""
