//! How long a client is waited for in the middle of a body: between two reads (`client-body-timeout`), and over all of
//! it by a least rate (`client-body-min-rate`, `security.md` D.1).
//!
//! Only time counts in which the client is what is waited for; a slow backend is not held against it.

use std::time::Duration;

use tokio::time::Instant;

/// Time of waiting that no client has to explain by bytes.
const GRACE: Duration = Duration::from_secs(10);

/// The limits of one body, and how far they are used up.
#[derive(Debug)]
pub(super) struct Patience {
    idle: Duration,
    /// Bytes per second; 0 for none.
    rate: u64,
    /// Waited so far, the present wait not counted.
    waited: Duration,
    /// Bytes that came so far.
    bytes: u64,
    /// The present wait.
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    end: Instant,
}

impl Patience {
    /// `idle` between two reads, at least `rate` bytes per second.
    pub(super) const fn new(idle: Duration, rate: u64) -> Self {
        Self { idle, rate, waited: Duration::ZERO, bytes: 0, wait: None }
    }

    /// The client is waited for from now on, if it was not already.
    pub(super) fn wait(&mut self) {
        if self.wait.is_none() {
            let since = Instant::now();
            let least = match self.rate {
                0 => self.idle,
                rate => {
                    let explained = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
                    GRACE.saturating_add(explained).saturating_sub(self.waited).min(self.idle)
                }
            };
            self.wait = Some(Wait { since, end: since + least });
        }
    }

    /// The client is not waited for any more; `bytes` came from it.
    pub(super) fn rest(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        if let Some(wait) = self.wait.take()
            && self.rate > 0
        {
            self.waited = self.waited.saturating_add(wait.since.elapsed());
        }
    }

    /// When patience ends, while the client is waited for.
    pub(super) fn end(&self) -> Option<Instant> {
        self.wait.as_ref().map(|wait| wait.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::paused::block_on;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds that a client lasts which sends `bytes` every `pause`.
    fn lasts(mut patience: Patience, pause: Duration, bytes: u64) -> u64 {
        block_on(async {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(1000) {
                patience.wait();
                let next = Instant::now() + pause;
                let end = patience.end().unwrap();
                if end < next {
                    tokio::time::sleep_until(end).await;
                    break;
                }
                tokio::time::sleep_until(next).await;
                patience.rest(bytes);
            }
            start.elapsed().as_secs()
        })
    }

    #[test]
    fn a_client_that_drips_lasts_for_ever_without_a_rate_and_not_with_one() {
        let idle = 60 * SECOND;
        assert_eq!(lasts(Patience::new(idle, 0), 50 * SECOND, 1), 1000);
        assert_eq!(lasts(Patience::new(idle, 0), 70 * SECOND, 1), 60);
        assert_eq!(lasts(Patience::new(idle, 256), SECOND, 1), 10);
        assert_eq!(lasts(Patience::new(idle, 256), SECOND, 128), 19);
        assert_eq!(lasts(Patience::new(idle, 256), SECOND, 256), 1000);
        assert_eq!(lasts(Patience::new(5 * SECOND, 256), 6 * SECOND, 1 << 20), 5);
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_does_not_count() {
        block_on(async {
            let mut patience = Patience::new(60 * SECOND, 256);
            patience.wait();
            patience.rest(10);
            assert_eq!(patience.end(), None);
            tokio::time::sleep(100 * SECOND).await;
            patience.wait();
            assert!(patience.end().unwrap() >= Instant::now() + 10 * SECOND);
        });
    }
}
