//! The loop over a stream of changes (an API server): nothing is published before every feed was listed; from then on a
//! burst of changes becomes one publication, and one of EndpointSlices only takes the cheap road. A list that lacks most of
//! what was there is looked at twice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::objects::{Change, Effect, FeedId, Objects};
use super::output::Output;
use super::{Beside, Control, Hook, Pace, Settings, StartError, Wake, now, seconds_until};
use crate::limit::priority::step_back;
use crate::snapshot::Reader;

/// How long after a change of endpoints alone the whole is looked at, for findings about endpoints. They may be
/// late; traffic is not.
const SETTLE: Duration = Duration::from_secs(2);
/// With nothing to do the loop still wakes up now and then.
const IDLE: Duration = Duration::from_secs(3600);

/// Most changes of one publication: even a flood of them is shown before it is over.
const MOST_AT_ONCE: usize = 20_000;

/// How long after a list that lacked most of what was there the second one is asked for (`spec F-6`).
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(5);

/// What becomes of a feed whose list lacked most of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// What is missing stays for now.
    Held(FeedId),
    /// It is to be listed again.
    Ask(FeedId),
    /// It is as its last list said.
    Settled(FeedId),
}

/// Hears of suspicions, on the control thread.
pub type Suspect = Box<dyn Fn(Suspicion) + Send>;

/// Where changes go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Changes(Sender<Wake>);

impl Changes {
    /// Hands a change over; its arrival is now.
    pub fn send(&self, change: Change) {
        // The loop has ended: so does the process.
        drop(self.0.send(Wake::Change(Instant::now(), change)));
    }
}

/// Lets `begin` start what sends changes (what it gives is given back), waits until all of this many feeds were listed,
/// publishes the first snapshot, and follows from then on. `suspect` is told when a feed is to be listed a second time.
///
/// # Errors
/// See [`StartError`]; after a successful start nothing stops the loop but [`Control`].
pub fn start_stream<S>(
    settings: Settings,
    hooks: Vec<Hook>,
    feeds: usize,
    suspect: Suspect,
    begin: impl FnOnce(Changes) -> Result<S, StartError>,
) -> Result<(Control, Reader, S), StartError> {
    let (wakes, woken) = mpsc::channel();
    let begun = begin(Changes(wakes.clone()))?;
    let mut objects = Objects::new(feeds).guarded(settings.mass_removal_guard);
    // All other wakes come through `Control`, which nobody has yet.
    while !objects.is_complete() {
        match woken.recv() {
            Ok(Wake::Change(_, change)) => drop(objects.take(change)),
            Ok(Wake::Files(_) | Wake::Reread | Wake::Beside | Wake::Stop) | Err(_) => {}
        }
    }
    let began = Instant::now();
    let world = objects.world().clone();
    let beside = Beside::of(&wakes);
    let first = (world, objects.diagnostics());
    let (output, reader) = Output::start(settings, &beside, first, hooks, began, "the API server")?;
    let mut follower = Follower {
        objects,
        output,
        pending: Effect::Nothing,
        settle_at: None,
        suspect,
        second_looks: BTreeMap::new(),
    };
    follower.look_at_doubts();
    let thread = thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            step_back();
            follower.run(&woken);
        })
        .map_err(StartError::Thread)?;
    Ok((Control { wakes, beside, thread: Some(thread) }, reader, begun))
}

struct Follower {
    objects: Objects,
    output: Output,
    /// What the changes that wait may touch.
    pending: Effect,
    /// When to look at the whole after changes of endpoints alone.
    settle_at: Option<Instant>,
    suspect: Suspect,
    /// When feeds in doubt are to be listed again; `None` once they were asked.
    second_looks: BTreeMap<FeedId, Option<Instant>>,
}

impl Follower {
    fn run(mut self, wakes: &Receiver<Wake>) {
        let mut pace = Pace::default();
        loop {
            let review = self.output.review_at().map(|at| Instant::now() + seconds_until(at));
            let idle = Instant::now() + IDLE;
            let deadline = [pace.due(), self.settle_at, review, self.second_look(), self.output.free_at()]
                .into_iter()
                .flatten()
                .fold(idle, Instant::min);
            match wakes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Change(arrived, change)) => {
                    self.take(arrived, change, &mut pace);
                    if self.take_waiting(wakes, &mut pace).is_break() {
                        return;
                    }
                }
                // An API server tells every change; there is nothing to read again.
                Ok(Wake::Reread | Wake::Beside) => self.whole(Instant::now()),
                Ok(Wake::Files(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            let present = Instant::now();
            self.output.free(present);
            self.ask_again(present);
            if let Some(first) = pace.take(present) {
                self.publish(first);
            } else if self.settle_at.is_some_and(|at| at <= present)
                || self.output.review_at().is_some_and(|at| at <= now())
            {
                self.whole(present);
            }
        }
    }

    /// Notes which feeds came into doubt and which are out of it.
    fn look_at_doubts(&mut self) {
        let doubted: Vec<FeedId> = self.objects.doubts().collect();
        let settled: Vec<FeedId> =
            self.second_looks.keys().filter(|feed| !doubted.contains(feed)).copied().collect();
        for feed in settled {
            tracing::info!(feed, "the second look is done");
            self.second_looks.remove(&feed);
            (self.suspect)(Suspicion::Settled(feed));
        }
        for feed in doubted {
            if let Entry::Vacant(place) = self.second_looks.entry(feed) {
                tracing::warn!(
                    feed,
                    "a list lacks most of what was there; what is missing stays until a second list agrees"
                );
                place.insert(Some(Instant::now() + SECOND_LOOK));
                (self.suspect)(Suspicion::Held(feed));
            }
        }
    }

    fn second_look(&self) -> Option<Instant> {
        self.second_looks.values().flatten().min().copied()
    }

    fn ask_again(&mut self, present: Instant) {
        for (feed, at) in &mut self.second_looks {
            if at.take_if(|at| *at <= present).is_some() {
                self.objects.ask(*feed);
                (self.suspect)(Suspicion::Ask(*feed));
            }
        }
    }

    fn take(&mut self, arrived: Instant, change: Change, pace: &mut Pace) {
        let effect = self.objects.take(change);
        self.look_at_doubts();
        if effect > Effect::Nothing {
            self.pending = self.pending.max(effect);
            pace.note(arrived);
        }
    }

    /// Takes what came while something was published: it belongs to one publication. Change by change each would be as
    /// late as the one before it, and a writer that is faster than publications would never be caught up with.
    fn take_waiting(&mut self, wakes: &Receiver<Wake>, pace: &mut Pace) -> ControlFlow<()> {
        for wake in wakes.try_iter().take(MOST_AT_ONCE) {
            match wake {
                Wake::Change(arrived, change) => self.take(arrived, change, pace),
                Wake::Stop => return ControlFlow::Break(()),
                Wake::Reread | Wake::Beside => {
                    self.pending = Effect::Everything;
                    pace.note(Instant::now());
                }
                Wake::Files(_) => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn publish(&mut self, since: Instant) {
        let cheap = std::mem::take(&mut self.pending) == Effect::Endpoints;
        if cheap && self.output.endpoints(self.objects.world(), since) {
            // Counted from the first of them: endpoints of a large cluster may change without end.
            self.settle_at.get_or_insert_with(|| Instant::now() + SETTLE);
        } else {
            self.whole(since);
        }
    }

    fn whole(&mut self, since: Instant) {
        self.settle_at = None;
        self.output.world(self.objects.world().clone(), self.objects.diagnostics(), since);
    }
}

#[cfg(test)]
mod tests;
