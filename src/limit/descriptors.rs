//! The number of open files the kernel allows (`F-21`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits on open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit in force.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

impl Descriptors {
    /// What is in force. "Unlimited" is the largest number.
    pub fn current() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// Raises the soft limit to the hard one and says what is in force then.
    ///
    /// # Errors
    /// When the kernel refuses; the old limit stays in force.
    pub fn raise() -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        }
        Ok(Self::current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_reaches_the_hard_limit_and_is_idempotent() {
        let raised = Descriptors::raise().unwrap();
        assert_eq!(raised.soft, raised.hard);
        assert!(raised.soft > 0);
        assert_eq!(Descriptors::raise().unwrap(), raised);
        assert_eq!(Descriptors::current(), raised);
    }
}
