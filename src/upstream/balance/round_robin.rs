//! One after the other, all of weight 1. The start is random per worker, so that workers do not march in step.

use std::net::SocketAddr;

/// Where the turn is.
#[derive(Debug)]
pub struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// The first pick is the endpoint at `start`.
    pub const fn new(start: usize) -> Self {
        Self { next: start }
    }

    /// The next endpoint that is `wanted` and was not `tried`; else the next not tried; else the next. An ill
    /// endpoint is better than none, and a tried one too.
    pub fn pick(
        &mut self,
        peers: &[SocketAddr],
        wanted: impl Fn(SocketAddr) -> bool,
        tried: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let turn = || {
            let start = self.next;
            (0..peers.len()).map(move |step| start.wrapping_add(step).checked_rem(peers.len()).unwrap_or(0))
        };
        let test =
            |index: usize, test: &dyn Fn(SocketAddr) -> bool| peers.get(index).copied().is_some_and(test);
        let index = turn()
            .find(|index| test(*index, &|peer| wanted(peer) && !tried(peer)))
            .or_else(|| turn().find(|index| test(*index, &|peer| !tried(peer))))
            .or_else(|| turn().next())?;
        self.next = index.wrapping_add(1);
        peers.get(index).copied()
    }
}
