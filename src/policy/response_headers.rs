//! The head a client sees, from the backend's (`HF-6`).
