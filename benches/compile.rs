//! Compiling 10,000 hosts with 5 paths each: from scratch, after one changed Ingress, after one changed endpoint.

#[path = "support/cluster.rs"]
mod cluster;

use divan::{Bencher, black_box};
use narthex::compile::{Compiler, compile};

const HOSTS: usize = 10_000;

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn from_scratch(bencher: Bencher<'_, '_>) {
    let scene = cluster::scene(HOSTS);
    bencher.bench_local(|| compile(&black_box(&scene).inputs()));
}

#[divan::bench(sample_count = 100, sample_size = 1)]
fn one_changed_ingress(bencher: Bencher<'_, '_>) {
    let mut scene = cluster::scene(HOSTS);
    let mut compiler = Compiler::new();
    compiler.compile(&scene.inputs());
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        scene.put(cluster::ingress(HOSTS / 2, &format!("api{turn}")));
        compiler.compile(&scene.inputs())
    });
}

#[divan::bench(sample_count = 100, sample_size = 1)]
fn one_changed_endpoint(bencher: Bencher<'_, '_>) {
    let mut scene = cluster::scene(HOSTS);
    let mut compiler = Compiler::new();
    let compiled = compiler.compile(&scene.inputs());
    let mut turn: u8 = 0;
    bencher.bench_local(|| {
        turn = turn.wrapping_add(1);
        cluster::add_service(&mut scene, HOSTS / 2, turn);
        compiler.endpoints_only(&scene.inputs(), &compiled.table)
    });
}
