//! Which worker gets a task: one pure function of what the task wants and what
//! each worker offers.

use std::{collections::BTreeMap, fmt};

use crate::id::{AdapterName, WorkerId};

/// What a task asks of a worker.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// The adapter it must be able to start.
    pub sdk: &'a AdapterName,
    /// The labels it must carry.
    pub labels: &'a BTreeMap<String, String>,
}

/// What a worker has to give.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The worker.
    pub worker: &'a WorkerId,
    /// The adapters it can start.
    pub adapters: &'a [AdapterName],
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Whether it takes no more tasks.
    pub leaving: bool,
    /// Whether starts of the adapter failed there of late.
    pub quarantined: bool,
    /// Whether it was just tried in vain.
    pub tried: bool,
    /// Whether it runs as many sessions of the adapter as it may.
    pub capped: bool,
    /// Sessions that still fit.
    pub free: usize,
}

/// Why a task fits nowhere; names the mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoPlace {
    /// There is no worker at all.
    NoWorker,
    /// No worker has the adapter.
    NoAdapter,
    /// None that has it carries the labels.
    NoLabels,
    /// All of those are on their way out.
    Leaving,
    /// All of those are in quarantine.
    Quarantined,
    /// All of those run as many sessions of the adapter as they may.
    Capped,
    /// All of those are full.
    Full,
    /// All of those were tried and refused.
    Tried,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWorker => "no worker is there: start one",
            Self::NoAdapter => "no worker has this adapter: name it in a worker's configuration",
            Self::NoLabels => "no worker with this adapter carries the task's labels",
            Self::Leaving => "every worker that could take it is draining",
            Self::Quarantined => "starts fail at every worker that could take it",
            Self::Capped => {
                "every worker that could take it runs as many sessions of this adapter as its \
                 max_sessions allows: add a worker, or allow more"
            }
            Self::Full => "every worker that could take it is full: add one",
            Self::Tried => "every worker that could take it refused",
        })
    }
}

/// Picks the worker with the most room, the first by name among equals.
///
/// # Errors
/// [`NoPlace`] says which hurdle the last workers fell at.
pub fn place<'a>(want: Want<'_>, offers: &[Offer<'a>]) -> Result<&'a WorkerId, NoPlace> {
    type Hurdle<'h> = (NoPlace, &'h dyn Fn(&Offer<'_>) -> bool);
    let hurdles: [Hurdle<'_>; 7] = [
        (NoPlace::NoAdapter, &|offer| offer.adapters.contains(want.sdk)),
        (NoPlace::NoLabels, &|offer| {
            want.labels.iter().all(|(key, value)| offer.labels.get(key) == Some(value))
        }),
        (NoPlace::Leaving, &|offer| !offer.leaving),
        (NoPlace::Quarantined, &|offer| !offer.quarantined),
        (NoPlace::Capped, &|offer| !offer.capped),
        (NoPlace::Full, &|offer| offer.free > 0),
        (NoPlace::Tried, &|offer| !offer.tried),
    ];
    let mut left: Vec<&Offer<'a>> = offers.iter().collect();
    if left.is_empty() {
        return Err(NoPlace::NoWorker);
    }
    for (why, fits) in hurdles {
        left.retain(|offer| fits(offer));
        if left.is_empty() {
            return Err(why);
        }
    }
    left.into_iter()
        .min_by_key(|offer| (std::cmp::Reverse(offer.free), offer.worker))
        .map(|offer| offer.worker)
        .ok_or(NoPlace::Full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roomiest_wins_and_the_reason_names_the_last_hurdle() {
        let (w1, w2, w3) = ("w1", "w2", "w3");
        let ids = [w1, w2, w3].map(|id| WorkerId::parse(id).unwrap());
        let sim = [AdapterName::parse("sim").unwrap()];
        let zone = BTreeMap::from([("zone".to_owned(), "a".to_owned())]);
        let none = BTreeMap::new();
        let offer = |at: usize, free| Offer {
            worker: &ids[at],
            adapters: &sim,
            labels: &none,
            leaving: false,
            quarantined: false,
            tried: false,
            capped: false,
            free,
        };
        let want = Want { sdk: &sim[0], labels: &none };
        assert_eq!(place(want, &[offer(0, 1), offer(1, 3), offer(2, 3)]), Ok(&ids[1]));
        assert_eq!(place(want, &[]), Err(NoPlace::NoWorker));
        assert_eq!(place(want, &[offer(0, 0)]), Err(NoPlace::Full));
        let tried = Offer { tried: true, ..offer(0, 1) };
        assert_eq!(place(want, &[tried, offer(1, 0)]), Err(NoPlace::Tried));
        let ill = Offer { quarantined: true, ..offer(0, 1) };
        assert_eq!(place(want, &[ill.clone(), offer(1, 1)]), Ok(&ids[1]));
        assert_eq!(place(want, &[ill]), Err(NoPlace::Quarantined));
        let capped = Offer { capped: true, ..offer(0, 0) };
        assert_eq!(place(want, std::slice::from_ref(&capped)), Err(NoPlace::Capped));
        assert_eq!(place(want, &[capped, offer(1, 0)]), Err(NoPlace::Full));
        let leaving = Offer { leaving: true, ..offer(0, 1) };
        assert_eq!(place(want, &[leaving]), Err(NoPlace::Leaving));
        assert_eq!(place(Want { labels: &zone, ..want }, &[offer(0, 1)]), Err(NoPlace::NoLabels));
        let other = AdapterName::parse("other").unwrap();
        assert_eq!(place(Want { sdk: &other, ..want }, &[offer(0, 1)]), Err(NoPlace::NoAdapter));
    }
}
