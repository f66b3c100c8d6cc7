"""HTTP: a small server of ready pages and streams with TLS and passwords, our own access, and posting."""
