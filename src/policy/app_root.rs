//! `app-root`: where `/` of a host is sent.
