//! What a tick of a mix costs: 20 ms of so many speakers, from the bytes of
//! their slots to those of the mix.
//!
//! `cargo bench --bench mix`

use audio_gateway::audio::{Mixer, SlotState, SourceKey};
use divan::{Bencher, counter::ItemsCount};

/// Positions in a slot.
const SLOT: u64 = 320;
/// What a speaker's slots are off from those of the mix, and from the others'.
const OFF: u64 = 31;

fn main() {
    divan::main();
}

/// A mix in which so many have been silent so far.
struct Room {
    mixer: Mixer,
    sources: Vec<SourceKey>,
    pcm: Vec<u8>,
    pos: u64,
}

impl Room {
    fn new(channels: u8, sources: u64, peak: i16) -> Self {
        let mut mixer = Mixer::new(channels);
        let sources: Vec<_> = (0..sources).map(|at| mixer.join(3, at * OFF % SLOT)).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        let pcm = (0..SLOT).flat_map(|_| rng.i16(-peak..=peak).to_le_bytes()).collect();
        let mut room = Self { mixer, sources, pcm, pos: 0 };
        // What is measured is not how one comes in, or memory is taken.
        for _ in 0..100 {
            room.tick(0);
        }
        room
    }

    /// A slot of all, of which so many speak; returns how many slots were made.
    fn tick(&mut self, speakers: usize) -> usize {
        for (at, key) in self.sources.iter().enumerate() {
            let pos = self.pos + at as u64 * OFF % SLOT;
            if at < speakers {
                self.mixer.audio(*key, pos, &self.pcm);
            } else {
                self.mixer.quiet(*key, pos, SLOT, SlotState::Silence);
            }
        }
        self.pos += SLOT;
        let mut made = 0;
        while let Some(slot) = self.mixer.next(0) {
            divan::black_box(slot.pcm);
            made += 1;
        }
        made
    }
}

/// All of them speak, and fit together.
#[divan::bench(args = [1, 2, 10, 50])]
fn speakers(bencher: Bencher<'_, '_>, speakers: u64) {
    let mut room = Room::new(1, speakers, 600);
    bencher.counter(ItemsCount::new(speakers)).bench_local(|| room.tick(speakers as usize));
}

/// As above, to the left and to the right.
#[divan::bench(args = [2, 10, 50])]
fn stereo(bencher: Bencher<'_, '_>, speakers: u64) {
    let mut room = Room::new(2, speakers, 600);
    bencher.counter(ItemsCount::new(speakers)).bench_local(|| room.tick(speakers as usize));
}

/// All of them shout, so that the mix is turned down.
#[divan::bench(args = [2, 10, 50])]
fn too_loud(bencher: Bencher<'_, '_>, speakers: u64) {
    let mut room = Room::new(1, speakers, i16::MAX);
    bencher.counter(ItemsCount::new(speakers)).bench_local(|| room.tick(speakers as usize));
}

/// Nobody speaks.
#[divan::bench(args = [2, 10, 50])]
fn silence(bencher: Bencher<'_, '_>, sources: u64) {
    let mut room = Room::new(1, sources, 600);
    bencher.counter(ItemsCount::new(sources)).bench_local(|| room.tick(0));
}

/// Of fifty one speaks.
#[divan::bench]
fn one_of_fifty(bencher: Bencher<'_, '_>) {
    let mut room = Room::new(1, 50, 600);
    bencher.bench_local(|| room.tick(1));
}
