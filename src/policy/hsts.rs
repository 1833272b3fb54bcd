//! HSTS: the `Strict-Transport-Security` field of every TLS response (RFC 6797).
