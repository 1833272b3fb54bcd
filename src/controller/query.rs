//! Path and query of a request to the API server.

use std::fmt::{Display, Write};

use http::Request;

/// A target under construction.
#[derive(Debug, Clone)]
pub(super) struct Query {
    target: String,
    parted: bool,
}

impl Query {
    /// Of a path.
    pub(super) fn new(path: &str) -> Self {
        Self { target: path.to_owned(), parted: false }
    }

    /// Adds a parameter.
    #[must_use]
    pub(super) fn pair(mut self, name: &str, value: impl Display) -> Self {
        self.target.push(if self.parted { '&' } else { '?' });
        self.parted = true;
        self.target.push_str(name);
        self.target.push('=');
        for byte in value.to_string().bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                self.target.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _written = write!(self.target, "%{byte:02X}");
            }
        }
        self
    }

    /// Adds a parameter unless its value is empty.
    #[must_use]
    pub(super) fn pair_if(self, name: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.pair(name, value) }
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The request.
    pub(super) fn get(&self) -> Result<Request<Vec<u8>>, http::Error> {
        Request::get(&self.target).body(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_empty_ones_left_out() {
        let query =
            Query::new("/api/v1/secrets").pair_if("labelSelector", "").pair("fieldSelector", "a!=b,c=d/e");
        assert_eq!(query.get().unwrap().uri(), "/api/v1/secrets?fieldSelector=a%21%3Db%2Cc%3Dd%2Fe");
        let query = Query::new("/x").pair("limit", 500).pair("continue", "a+b");
        assert_eq!(query.get().unwrap().uri(), "/x?limit=500&continue=a%2Bb");
    }
}
