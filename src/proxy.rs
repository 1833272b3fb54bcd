//! The data plane: life of a request (ARCHITECTURE.md, "How a request flows").

pub mod http1;
pub mod message;
