//! `enable-access-log`, `skip-access-log-urls`: which requests are written to the access log.
