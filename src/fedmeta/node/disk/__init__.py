"""What a node keeps: its promises in a journal, and blobs under a quota."""
