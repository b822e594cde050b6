"""The running flow as a source."""
