//! Host and path lookup over 1 to 100,000 hosts with 5 paths each: the time of one lookup should hardly grow.

#[path = "support/cluster.rs"]
mod cluster;

use divan::{Bencher, black_box};
use narthex::compile::compile;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 100, 10_000, 100_000], sample_count = 20, sample_size = 20_000)]
fn find(bencher: Bencher<'_, '_>, hosts: usize) {
    let scene = cluster::scene(hosts);
    let compiled = compile(&scene.inputs());
    let asked: Vec<(String, String)> = (0..hosts.min(4096))
        .map(|number| (cluster::host(number * 7919 % hosts), format!("/api/v{}/items/4711", number % 5)))
        .collect();
    let found = asked.iter().filter(|(host, path)| {
        let server = compiled.table.server(host);
        server.index.find(&server.locations, path.as_bytes()).is_some()
    });
    assert_eq!(found.count(), asked.len(), "what is looked up is there");
    let mut turn = asked.iter().cycle();
    bencher.bench_local(|| {
        let Some((host, path)) = turn.next() else { return };
        let server = compiled.table.server(black_box(host));
        black_box(server.index.find(&server.locations, black_box(path.as_bytes())));
    });
}

#[divan::bench(args = [5, 100, 1_000], sample_count = 20, sample_size = 20_000)]
fn expressions(bencher: Bencher<'_, '_>, paths: usize) {
    let scene = cluster::expressions(paths);
    let compiled = compile(&scene.inputs());
    let asked: Vec<String> = (0..paths).map(|number| format!("/api{number}/items/{number}")).collect();
    let mut turn = asked.iter().cycle();
    bencher.bench_local(|| {
        let Some(path) = turn.next() else { return };
        let server = compiled.table.server("regex.test");
        black_box(server.index.find(&server.locations, black_box(path.as_bytes())));
    });
}
