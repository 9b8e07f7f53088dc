"""What is sent, signed and hashed: encodings, layouts, signatures, proofs, transactions, events, blocks."""
