//! What a configuration's own variables and rewritten targets look like in the record of an exchange, and what a request
//! under way knows of its future log line.

use std::cell::Ref;
use std::time::Instant;

use smallvec::SmallVec;

use super::Exchange;
use crate::policy::snippet::maps::Maps;
use crate::policy::snippet::{Remains, Run};
use crate::policy::template::Rest;
use crate::telemetry::access_log::{Clock, variable};
use crate::telemetry::{OwnLookup, UpstreamTry};
use crate::variable::{Fixed, Variable};

/// Variables of `set`, named groups and `map`.
pub(super) struct Own<'e> {
    pub(super) remains: Ref<'e, Option<Box<Remains>>>,
    pub(super) maps: &'e Maps,
}

impl OwnLookup for Own<'_> {
    fn own(&self, name: &str, shown: &dyn Fn(&Variable) -> Option<Vec<u8>>) -> Vec<u8> {
        match self.remains.as_deref() {
            Some(remains) => remains.value(name, self.maps, shown),
            None => Remains::default().value(name, self.maps, shown),
        }
    }
}

/// A target that a rewrite made, as `$uri` and `$args` show it.
pub(super) struct Rewritten {
    pub(super) uri: Box<[u8]>,
    pub(super) args: Box<[u8]>,
}

impl Rewritten {
    pub(super) fn of(target: &[u8]) -> Self {
        let (path, query) = crate::request::split_target(target);
        Self { uri: crate::request::decoded(path).into(), args: query.unwrap_or_default().into() }
    }
}

impl Rest for Exchange {
    fn value(&self, fixed: Fixed) -> Option<Vec<u8>> {
        let now = Instant::now();
        let tries: SmallVec<[UpstreamTry; 1]> = self.tries.borrow().iter().map(|one| one.so_far()).collect();
        let mut value = None;
        self.with_record(self.status.get(), now.duration_since(self.start), &tries, |record| {
            value = variable::bytes(&Variable::Fixed(fixed), record, &mut Clock::system());
        });
        value
    }

    fn upgrade(&self) -> Option<&str> {
        self.upgrade.get().map(|protocol| &**protocol)
    }
}

impl Exchange {
    /// Keeps the variables that snippets set so far, where the log shows one.
    pub fn remember(&self, run: &Run<'_>) {
        if let Some(remains) = run.remains().filter(|_| self.worker.log.wants_own()) {
            *self.remains.borrow_mut() = Some(Box::new(remains));
        }
    }

    /// Its target was rewritten to this one: `$uri` and `$args` follow.
    pub fn rewritten(&self, target: &[u8]) {
        *self.rewritten.borrow_mut() = Some(Box::new(Rewritten::of(target)));
    }
}
