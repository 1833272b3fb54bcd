//! Phases on a paused clock, and counting across threads.

use std::cell::RefCell;

use super::*;

const PLAN: DrainPlan = DrainPlan { grace: Duration::from_secs(10), deadline: Duration::from_secs(100) };

/// Runs a drain and notes when each phase began, in seconds since its start.
async fn observed(trigger: &DrainTrigger, plan: DrainPlan) -> (Drained, Vec<(Phase, u64)>) {
    let begun = Instant::now();
    let seen = RefCell::new(Vec::new());
    let drained = trigger.run(plan, |phase| seen.borrow_mut().push((phase, begun.elapsed().as_secs()))).await;
    (drained, seen.into_inner())
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_ends_right_after_its_grace_period() {
    let trigger = DrainTrigger::new();
    let watcher = trigger.watcher();
    let (drained, phases) = observed(&trigger, PLAN).await;
    assert_eq!(drained, Drained { finished: 0, cut: 0 });
    assert_eq!(phases, [(Phase::Grace, 0), (Phase::Draining, 10), (Phase::Cut, 10)]);
    assert_eq!(watcher.phase(), Phase::Cut);
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_period_draining_begins_at_once() {
    let plan = DrainPlan { grace: Duration::ZERO, ..PLAN };
    let (_, phases) = observed(&DrainTrigger::new(), plan).await;
    assert_eq!(phases, [(Phase::Grace, 0), (Phase::Draining, 0), (Phase::Cut, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_running_request_is_waited_for_and_then_the_process_ends() {
    let trigger = DrainTrigger::new();
    let watcher = trigger.watcher();
    let (connection, request) = (watcher.token(Work::Connection), watcher.token(Work::Request));
    assert_eq!((trigger.open(Work::Connection), trigger.open(Work::Request)), (1, 1));
    let work = async move {
        tokio::time::sleep(Duration::from_secs(40)).await;
        drop((request, connection));
    };
    let ((drained, phases), ()) = tokio::join!(observed(&trigger, PLAN), work);
    assert_eq!(drained, Drained { finished: 2, cut: 0 });
    assert_eq!(phases, [(Phase::Grace, 0), (Phase::Draining, 10), (Phase::Cut, 40)]);
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_asked_to_end_at_four_fifths_of_the_deadline() {
    let trigger = DrainTrigger::new();
    let watcher = trigger.watcher();
    let token = watcher.token(Work::Tunnel);
    let tunnel = async {
        watcher.ending_tunnels().await;
        drop(token);
    };
    let ((drained, phases), ()) = tokio::join!(observed(&trigger, PLAN), tunnel);
    assert_eq!(drained, Drained { finished: 1, cut: 0 });
    assert_eq!(
        phases,
        [(Phase::Grace, 0), (Phase::Draining, 10), (Phase::EndingTunnels, 90), (Phase::Cut, 90)]
    );
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_cut_at_the_deadline_and_counted() {
    let trigger = DrainTrigger::new();
    let watcher = trigger.watcher();
    let _stuck = (watcher.token(Work::Connection), trigger.watcher().token(Work::Tunnel));
    let _queue_is_no_work = watcher.token(Work::Listener);
    let (drained, phases) = observed(&trigger, PLAN).await;
    assert_eq!(drained, Drained { finished: 0, cut: 2 });
    assert_eq!(phases.last(), Some(&(Phase::Cut, 110)));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_skips_the_grace_period_only() {
    let trigger = DrainTrigger::new();
    let token = trigger.watcher().token(Work::Request);
    let hurry = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        trigger.hurry();
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(token);
    };
    let ((drained, phases), ()) = tokio::join!(observed(&trigger, PLAN), hurry);
    assert_eq!(drained, Drained { finished: 1, cut: 0 });
    assert_eq!(phases, [(Phase::Grace, 0), (Phase::Draining, 3), (Phase::Cut, 23)]);
}

#[tokio::test(start_paused = true)]
async fn late_watchers_see_the_phase_they_missed() {
    let trigger = DrainTrigger::new();
    trigger.run(DrainPlan::INTERACTIVE, |_| ()).await;
    let watcher = trigger.watcher();
    assert!(watcher.is_draining());
    watcher.draining().await;
    watcher.cut().await;
}

#[tokio::test(start_paused = true)]
async fn serving_is_not_draining_and_watchers_wait() {
    let watcher = DrainTrigger::new().watcher();
    assert!(!watcher.is_draining());
    let waited = tokio::time::timeout(Duration::from_secs(1_000), watcher.draining()).await;
    assert!(waited.is_err(), "nobody asked to drain");
}

#[test]
fn work_on_other_threads_and_runtimes_is_counted_and_waited_for() {
    let trigger = DrainTrigger::new();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let watcher = trigger.watcher();
            let tokens: Vec<_> = (0..100).map(|_| watcher.token(Work::Request)).collect();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(watcher.draining());
                for token in tokens {
                    drop(token);
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let plan = DrainPlan { grace: Duration::ZERO, deadline: Duration::from_secs(600) };
    let drained = runtime.block_on(trigger.run(plan, |_| ()));
    assert_eq!(drained, Drained { finished: 400, cut: 0 });
    for worker in workers {
        worker.join().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_gives_its_token_back() {
    let trigger = DrainTrigger::new();
    let watcher = trigger.watcher();
    let panicked = tokio::spawn(async move {
        let _token = watcher.token(Work::Request);
        panic!("injected");
    });
    assert!(panicked.await.is_err());
    assert_eq!(trigger.open(Work::Request), 0);
}
