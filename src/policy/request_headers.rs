//! The head a backend sees, from the client's: what is removed, what is ours, in nginx's order (`routing.md` 8, `security.md` C.5).
