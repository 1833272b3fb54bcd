//! What a record looks up only when a log format asks for it: fields of heads, the place of the client.

use std::net::IpAddr;

use crate::places::Databases;
use crate::policy::basic_auth::credentials;
use crate::policy::template::Places;
use crate::telemetry::{FieldLookup, PlaceLookup};
use crate::wire::Fields;

/// The name in basic credentials, whoever asked for them.
pub(super) fn claimed_user(fields: &Fields) -> Option<Vec<u8>> {
    credentials(fields.get("authorization")?).map(|found| found.user)
}

/// The client and who knows where it is.
pub(super) struct Placed<'p> {
    /// The databases.
    pub(super) places: &'p Databases,
    /// The client.
    pub(super) client: IpAddr,
}

impl PlaceLookup for Placed<'_> {
    fn place(&self, name: &str) -> Option<String> {
        self.places.value(name, self.client)
    }
}

/// Fields of a head as a record finds them.
pub(super) struct Lookup<'f>(pub(super) &'f Fields);

impl FieldLookup for Lookup<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.get_all(name).for_each(visit);
    }
}

/// Fields of a head that was kept, or none.
pub(super) struct OptionalLookup<'f>(pub(super) Option<&'f Fields>);

impl FieldLookup for OptionalLookup<'_> {
    fn each(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.into_iter().flat_map(|fields| fields.get_all(name)).for_each(visit);
    }
}
