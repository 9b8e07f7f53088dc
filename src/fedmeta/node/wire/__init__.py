"""What nodes send to one another: blobs in chunks, sealed, and signed requests."""
