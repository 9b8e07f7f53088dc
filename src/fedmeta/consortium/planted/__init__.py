"""Contributors that are planted beside the hospitals, and what the rules pay them: free-riders, poisoners, copies."""
