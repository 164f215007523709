//! How long the pieces of the audio path take, and what they allocate: a batch
//! of ten frames each.
//!
//! `cargo bench --bench audio`

#[path = "../bench/counted/workloads.rs"]
#[allow(dead_code, reason = "others take what is left out here")]
mod workloads;

use divan::{AllocProfiler, Bencher};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = workloads::ALL.iter().map(|workload| workload.name))]
fn audio(bencher: Bencher<'_, '_>, name: &str) {
    let Some(workload) = workloads::named(name) else { return };
    let mut step = (workload.make)();
    // Pools and rings are full after ten seconds.
    (0..200).for_each(|_| step());
    bencher.bench_local(step);
}
