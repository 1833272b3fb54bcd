//! `upstream-vhost`: the `Host` a backend sees.
