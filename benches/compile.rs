//! Compiling 10,000 hosts with 5 paths each: from scratch, after one changed Ingress, after one changed endpoint;
//! and the number that stands for a table.

#[path = "support/cluster.rs"]
mod cluster;

use divan::{Bencher, black_box};
use narthex::compile::{Compiler, compile};
use narthex::route::fingerprint;

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

#[divan::bench(sample_count = 10, sample_size = 1)]
fn number_of_a_new_table(bencher: Bencher<'_, '_>) {
    let scene = cluster::scene(HOSTS);
    bencher.with_inputs(|| compile(&scene.inputs())).bench_local_values(|compiled| {
        let number = fingerprint::table(&compiled.table);
        (compiled, number)
    });
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn number_after_one_changed_ingress(bencher: Bencher<'_, '_>) {
    let mut scene = cluster::scene(HOSTS);
    let mut compiler = Compiler::new();
    fingerprint::table(&compiler.compile(&scene.inputs()).table);
    let mut turn = 0;
    let changed = || {
        turn += 1;
        scene.put(cluster::ingress(HOSTS / 2, &format!("api{turn}")));
        compiler.compile(&scene.inputs())
    };
    bencher.with_inputs(changed).bench_local_values(|compiled| {
        let number = fingerprint::table(&compiled.table);
        (compiled, number)
    });
}
