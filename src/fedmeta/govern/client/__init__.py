"""What a member or an auditor uses: a client, a light client, the audit of a file, key files."""
