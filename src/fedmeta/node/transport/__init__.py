"""How nodes reach one another: TLS, signed requests, and the gate that listens."""
