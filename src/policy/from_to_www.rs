//! `from-to-www-redirect`: the twin host that only redirects.
