//! What a 401 asked for, on whatever stands in its place. Its headers only: pages are `service`'s, the sign-in page is
//! `filter`'s. `service` calls it where it puts an answer away.

use crate::message::Response;

/// What a 401 of a backend asks for.
pub(super) fn challenges(response: &Response) -> Vec<Box<[u8]>> {
    if response.head.status != http::StatusCode::UNAUTHORIZED {
        return Vec::new();
    }
    response.head.fields.get_all("www-authenticate").map(Box::from).collect()
}

/// A page in the place of a 401 still asks for what the 401 asked for, as with nginx: without that no browser would.
pub(super) fn challenged<'c>(mut page: Response, challenges: impl Iterator<Item = &'c [u8]>) -> Response {
    for challenge in challenges {
        let _refused = page.head.fields.append("WWW-Authenticate", challenge);
    }
    page
}
