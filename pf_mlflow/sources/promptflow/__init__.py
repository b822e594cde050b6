"""What promptflow keeps of a batch on this machine as a source; the room of its private names."""
