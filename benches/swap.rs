//! Publishing a table of 10,000 hosts with 5 paths each, and what a request pays to see the latest one: alone, and while
//! somebody publishes without pause.

#[path = "support/cluster.rs"]
mod cluster;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use divan::{Bencher, black_box};
use narthex::cert::{self, Keeper};
use narthex::compile::{Compiled, compile};
use narthex::snapshot::{self, Publisher, Reader, Snapshot};

const HOSTS: usize = 10_000;

fn main() {
    divan::main();
}

/// A published snapshot, and how to make the next one.
struct Published {
    publisher: Publisher,
    reader: Reader,
    generation: u64,
}

impl Published {
    fn new() -> Self {
        let Compiled { table, endpoints, .. } = compile(&cluster::scene(HOSTS).inputs());
        let fallback = cert::self_signed(1_700_000_000).expect("a certificate can be made");
        let certs = Keeper::new(fallback).judge(&narthex::model::SharedMap::new(), None, 0).store;
        let first = Snapshot { generation: 1, table, endpoints, certs, diagnostics: Arc::from([]) };
        let (publisher, reader) = snapshot::channel(first);
        Self { publisher, reader, generation: 1 }
    }

    fn publish(&mut self) {
        self.generation += 1;
        let now = self.publisher.current();
        self.publisher.publish(Snapshot {
            generation: self.generation,
            table: Arc::clone(&now.table),
            endpoints: Arc::clone(&now.endpoints),
            certs: Arc::clone(&now.certs),
            diagnostics: Arc::clone(&now.diagnostics),
        });
        // As the control loop does.
        self.publisher.free(|| {});
    }
}

#[divan::bench]
fn publish(bencher: Bencher<'_, '_>) {
    let mut published = Published::new();
    bencher.bench_local(|| published.publish());
}

#[divan::bench]
fn load(bencher: Bencher<'_, '_>) {
    let published = Published::new();
    bencher.bench_local(|| black_box(published.reader.load()).generation);
}

#[divan::bench]
fn load_while_others_publish(bencher: Bencher<'_, '_>) {
    let mut published = Published::new();
    let reader = published.reader.clone();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                published.publish();
            }
        });
        bencher.bench_local(|| black_box(reader.load()).generation);
        stop.store(true, Ordering::Relaxed);
    });
}
